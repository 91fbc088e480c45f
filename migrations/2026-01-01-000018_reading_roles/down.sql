-- The roles stay: they belong to the whole cluster.
drop function if exists enrichment_tenant();

do $$
begin
    if to_regclass('enrichment_events') is not null then
        drop policy if exists "Aggregation can read enrichment events" on enrichment_events;
        if exists (select from pg_roles where rolname = 'cns_events_aggregate') then
            revoke all on enrichment_events from cns_events_aggregate;
        end if;
    end if;
end
$$;
