do $$
begin
    if obj_description(to_regclass('enrichment_events'), 'pg_class') like 'Made by cns-events%' then
        drop table enrichment_events;
    else
        raise notice 'enrichment_events was there before cns-events: it stays, with its rows and its new columns';
        alter table if exists enrichment_events drop constraint if exists enrichment_events_created_at_present;
    end if;
end
$$;
