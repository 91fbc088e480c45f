-- The role stays: it belongs to the whole cluster.
drop policy if exists "Retention can delete enrichment events" on enrichment_events;
drop policy if exists "Retention can find enrichment events by age" on enrichment_events;

do $$
begin
    if exists (select from pg_roles where rolname = 'cns_events_retention') and to_regclass('enrichment_events') is not null then
        revoke all on enrichment_events from cns_events_retention;
        revoke all (id, created_at) on enrichment_events from cns_events_retention;
    end if;
end
$$;
