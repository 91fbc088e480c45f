do $$
begin
    if to_regclass('enrichment_events') is not null then
        alter table enrichment_events alter column tenant_id reset (n_distinct);
    end if;
end
$$;
