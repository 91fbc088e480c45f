do $$
begin
    if obj_description(to_regclass('enrichment_events'), 'pg_class') like 'Made by cns-events%' then
        drop index if exists idx_enrichment_events_bom_created;
    end if;
end
$$;
