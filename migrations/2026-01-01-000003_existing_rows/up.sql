-- Rows from before: writers go on while they are read.
update enrichment_events set created_at = now() where created_at is null;

do $$
declare
    pending name;
begin
    for pending in
        select conname from pg_constraint
        where conrelid = 'enrichment_events'::regclass and not convalidated
          and conname in ('enrichment_events_created_at_present', 'enrichment_events_source_check')
    loop
        begin
            execute format('alter table enrichment_events validate constraint %I', pending);
        exception when check_violation then
            raise warning 'old rows break %: it holds for new rows only, until they are corrected and it is validated', pending;
        end;
    end loop;
end
$$;
