-- Who sums up (cns_events_aggregate: reads every event, writes summaries) and who helps (cns_events_support: reads summaries of all
-- tenants, and no event); and the one place that reads a tenant from the claims.
-- Roles belong to the whole cluster, so another database's migration may make them at the same moment.
set local lock_timeout = '10s';

-- In the table's schema, wherever the search path finds that.
do $$
begin
    perform set_config('search_path', format('%I, %s', n.nspname, current_setting('search_path')), true)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'enrichment_events'::regclass;
end
$$;

do $$
declare
    role_name text;
begin
    foreach role_name in array array['cns_events_aggregate', 'cns_events_support'] loop
        begin
            if not exists (select from pg_roles where rolname = role_name) then
                execute format('create role %I nologin', role_name);
            end if;
        exception when duplicate_object or unique_violation then
            null; -- somebody else was faster
        end;
        -- One login may do everything: a laptop's.
        begin
            if not pg_has_role(current_user, role_name, 'usage') then
                execute format('grant %I to current_user', role_name);
            end if;
        exception when insufficient_privilege or unique_violation then
            raise notice '% is not a member of %: only other logins can use it', current_user, role_name;
        end;
        execute format('grant usage on schema %I to %I', current_schema(), role_name);
    end loop;

    -- For whoever has become the role, and not for every member: the owner may be one, and sees no rows.
    if not exists (
        select from pg_policies where schemaname = current_schema() and tablename = 'enrichment_events'
          and policyname = 'Aggregation can read enrichment events'
    ) then
        create policy "Aggregation can read enrichment events" on enrichment_events
            for select to cns_events_aggregate using (current_user = 'cns_events_aggregate');
    end if;
    grant select on enrichment_events to cns_events_aggregate;

    -- The tenant of the claims that PostgREST, Supabase and cns-events set, as in the policy of enrichment_events.
    execute format($tenant$
        create or replace function %1$I.enrichment_tenant() returns uuid
        language sql stable parallel safe
        set search_path = pg_catalog, pg_temp
        as $body$
            select case
                when tenant ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then tenant::uuid
            end
            from (
                select coalesce(claims ->> 'tenant_id', claims -> 'app_metadata' ->> 'tenant_id') as tenant
                from (select nullif(current_setting('request.jwt.claims', true), '')::jsonb as claims) as setting
            ) as claimed
        $body$
    $tenant$, current_schema());
end
$$;
revoke all on function enrichment_tenant() from public;
grant execute on function enrichment_tenant() to authenticated;
