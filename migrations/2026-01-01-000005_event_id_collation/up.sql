-- Event ids are compared byte by byte ("C"): cheaper than any language's order, and equal means equal.
-- The new unique index stands already, and the type stays as it is, so that this changes the catalogue only and no row is read:
-- another length would rewrite the table under an exclusive lock.
set local lock_timeout = '10s';

do $$
declare
    old record;
    event_id_type text;
begin
    for old in
        select c.relname, k.conname
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'event_id'
        left join pg_constraint k on k.conindid = i.indexrelid and k.contype = 'u'
        where i.indrelid = 'enrichment_events'::regclass and i.indisunique and i.indnkeyatts = 1
          and i.indkey[0] = a.attnum and i.indpred is null and c.relname <> 'enrichment_events_event_id_key'
    loop
        begin
            if old.conname is not null then
                execute format('alter table enrichment_events drop constraint %I', old.conname);
            else
                execute format('drop index %I', old.relname);
            end if;
        exception when dependent_objects_still_exist then
            raise warning '% stays: something refers to it', old.relname;
        end;
    end loop;

    select format_type(atttypid, atttypmod) into event_id_type from pg_attribute
    where attrelid = 'enrichment_events'::regclass and attname = 'event_id'
      and attcollation <> 'pg_catalog."C"'::regcollation;
    if found then
        begin
            execute format('alter table enrichment_events alter column event_id type %s collate "C"', event_id_type);
        exception when feature_not_supported then
            raise warning 'event_id keeps its collation, because a view uses it: %', sqlerrm;
        end;
    end if;

    if not exists (
        select from pg_constraint
        where conrelid = 'enrichment_events'::regclass and conname = 'enrichment_events_event_id_key'
    ) then
        begin
            alter table enrichment_events
                add constraint enrichment_events_event_id_key unique using index enrichment_events_event_id_key;
        exception when object_not_in_prerequisite_state or wrong_object_type then
            raise warning 'enrichment_events_event_id_key stays an index: %', sqlerrm;
        end;
    end if;

    alter table enrichment_events alter column created_at set not null;
    alter table enrichment_events drop constraint if exists enrichment_events_created_at_present;
end
$$;
