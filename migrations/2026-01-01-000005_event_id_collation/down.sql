do $$
begin
    if obj_description(to_regclass('enrichment_events'), 'pg_class') like 'Made by cns-events%' then
        alter table enrichment_events drop constraint if exists enrichment_events_event_id_key;
    end if;
end
$$;
