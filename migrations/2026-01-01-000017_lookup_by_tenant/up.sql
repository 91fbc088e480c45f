-- The lookup also answers whether a stored event belongs to the tenant that the worker names, and both functions are safe from
-- objects that other roles create: a security-definer function resolves every name in pg_catalog alone, names its own
-- objects by schema, and casts every literal, so that no function or operator of another schema can take the place of one that
-- is meant.
set local lock_timeout = '10s';

do $$
declare
    home name := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'enrichment_events'::regclass);
begin
    -- A new body for the digest, with the same result: the literals were resolved by the caller's search path before.
    execute format($digest$
        create or replace function %1$I.enrichment_event_digest(
            event_type text, bom_id uuid, tenant_id uuid, organization_id text, project_id uuid, user_id uuid,
            source text, workflow_id text, state jsonb, payload jsonb
        ) returns text
        language sql stable parallel safe
        as $body$
            select pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(row($1, $2, $3, $4, $5, $6, $7, $8,
                pg_catalog.jsonb_hash_extended($9, 0::bigint), pg_catalog.jsonb_hash_extended($9, 1::bigint),
                pg_catalog.jsonb_hash_extended($10, 0::bigint), pg_catalog.jsonb_hash_extended($10, 1::bigint))::text,
                'UTF8'::name)), 'hex'::text)
        $body$
    $digest$, home);

    execute format($lookup$
        create or replace function %1$I.enrichment_events_lookup(event_ids text[], tenant_ids uuid[])
        returns table (event_id varchar, tenant_id uuid, id uuid, digest text, same_tenant boolean)
        language plpgsql security definer
        set search_path = pg_catalog, pg_temp
        as $body$
        begin
            perform pg_catalog.set_config('cns_events.lookup'::text, 'on'::text, true);
            return query
                select e.event_id::varchar, i.tenant_id, e.id, %1$I.enrichment_event_digest(
                    e.event_type::text, e.bom_id, e.tenant_id, e.organization_id, e.project_id, e.user_id,
                    e.source::text, e.workflow_id::text, e.state, e.payload),
                    e.tenant_id operator(pg_catalog.=) i.tenant_id
                from (
                    select distinct u.event_id, u.tenant_id
                    from rows from (pg_catalog.unnest(event_ids), pg_catalog.unnest(tenant_ids)) as u (event_id, tenant_id)
                ) as i
                join %1$I.enrichment_events e on e.event_id operator(pg_catalog.=) i.event_id;
            perform pg_catalog.set_config('cns_events.lookup'::text, 'off'::text, true);
        end
        $body$
    $lookup$, home);

    -- Workers of the release before call this one until they are replaced; it answers what it always answered.
    execute format($lookup$
        create or replace function %1$I.enrichment_events_lookup(event_ids text[])
        returns table (event_id varchar, id uuid, digest text)
        language plpgsql security definer
        set search_path = pg_catalog, pg_temp
        as $body$
        begin
            perform pg_catalog.set_config('cns_events.lookup'::text, 'on'::text, true);
            return query
                select e.event_id::varchar, e.id, %1$I.enrichment_event_digest(
                    e.event_type::text, e.bom_id, e.tenant_id, e.organization_id, e.project_id, e.user_id,
                    e.source::text, e.workflow_id::text, e.state, e.payload)
                from %1$I.enrichment_events e
                where e.event_id operator(pg_catalog.=) any (event_ids);
            perform pg_catalog.set_config('cns_events.lookup'::text, 'off'::text, true);
        end
        $body$
    $lookup$, home);
end
$$;

-- Default privileges may have granted the new function to other roles: the worker alone calls it.
do $$
declare
    granted record;
begin
    for granted in
        select distinct p.oid::regprocedure as function_name, a.grantee
        from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.oid = to_regprocedure('enrichment_events_lookup(text[], uuid[])') and a.grantee <> p.proowner
    loop
        execute format('revoke all on function %s from %s', granted.function_name,
            case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
    end loop;
end
$$;
grant execute on function enrichment_events_lookup(text[], uuid[]) to service_role;
