-- Who may do what: service_role inserts, authenticated reads its own tenant's rows, nobody else does anything.
set local lock_timeout = '10s';

-- What makes two rows the same event: every column but id, created_at and routing_key, as PostgreSQL stores them.
-- The documents by their hashes (two of 64 bits each): their text can be a thousand times what they take, because a
-- number like 1e131071 has all its zeros there.
create or replace function enrichment_event_digest(
    event_type text, bom_id uuid, tenant_id uuid, organization_id text, project_id uuid, user_id uuid,
    source text, workflow_id text, state jsonb, payload jsonb
) returns text
language sql stable parallel safe
as $$
    select encode(sha256(convert_to(row($1, $2, $3, $4, $5, $6, $7, $8,
        jsonb_hash_extended($9, 0), jsonb_hash_extended($9, 1),
        jsonb_hash_extended($10, 0), jsonb_hash_extended($10, 1))::text, 'UTF8')), 'hex')
$$;

do $$
declare
    made_here boolean := coalesce(obj_description('enrichment_events'::regclass, 'pg_class') like 'Made by cns-events%', false);
    owner_sees_all boolean;
begin
    select r.rolsuper or r.rolbypassrls into owner_sees_all
    from pg_class c join pg_roles r on r.oid = c.relowner
    where c.oid = 'enrichment_events'::regclass;

    alter table enrichment_events enable row level security;
    if made_here or owner_sees_all then
        alter table enrichment_events force row level security;
    else
        raise notice 'row-level security is not forced yet on the existing table, because its owner may still write to it: '
            'once nothing does, run: alter table enrichment_events force row level security';
    end if;

    if not exists (
        select from pg_policies where schemaname = current_schema() and tablename = 'enrichment_events'
          and policyname = 'Service role can insert enrichment events'
    ) then
        create policy "Service role can insert enrichment events" on enrichment_events
            for insert to service_role with check (true);
    end if;

    -- The tenant comes from the claims that PostgREST, Supabase and cns-events set. After a SET LOCAL the setting
    -- reads as an empty string for the rest of the session, and what is no UUID is nobody's tenant.
    if not exists (
        select from pg_policies where schemaname = current_schema() and tablename = 'enrichment_events'
          and policyname = 'Users can view own org enrichment events'
    ) then
        create policy "Users can view own org enrichment events" on enrichment_events
            for select to authenticated
            using (tenant_id = (
                select case
                    when tenant ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then tenant::uuid
                end
                from (
                    select coalesce(claims ->> 'tenant_id', claims -> 'app_metadata' ->> 'tenant_id') as tenant
                    from (select nullif(current_setting('request.jwt.claims', true), '')::jsonb as claims) as setting
                ) as claimed
            ));
    end if;

    -- Under FORCE the owner sees nothing either, save inside the lookup function below, which sets this switch.
    if not exists (
        select from pg_policies where schemaname = current_schema() and tablename = 'enrichment_events'
          and policyname = 'Lookup function can compare enrichment events'
    ) then
        create policy "Lookup function can compare enrichment events" on enrichment_events
            for select to current_user using (current_setting('cns_events.lookup', true) = 'on');
    end if;

    -- The worker asks this, and nothing else, about events it names itself: did I store it, is it the same?
    execute format($lookup$
        create or replace function enrichment_events_lookup(event_ids text[])
        returns table (event_id varchar, id uuid, digest text)
        language plpgsql security definer
        set search_path = %I, pg_temp
        as $body$
        begin
            perform set_config('cns_events.lookup', 'on', true);
            return query
                select e.event_id, e.id, enrichment_event_digest(
                    e.event_type, e.bom_id, e.tenant_id, e.organization_id, e.project_id, e.user_id,
                    e.source, e.workflow_id, e.state, e.payload)
                from enrichment_events e
                where e.event_id = any (event_ids);
            perform set_config('cns_events.lookup', 'off', true);
        end
        $body$
    $lookup$, current_schema());
    execute format('grant usage on schema %I to service_role, authenticated', current_schema());
end
$$;

-- Default privileges (Supabase has some) may have granted these to roles by name: the worker alone asks.
do $$
declare
    granted record;
begin
    for granted in
        select distinct p.oid::regprocedure as function_name, a.grantee
        from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.oid in (
            to_regprocedure('enrichment_events_lookup(text[])'),
            to_regprocedure('enrichment_event_digest(text, uuid, uuid, text, uuid, uuid, text, text, jsonb, jsonb)'))
          and a.grantee <> p.proowner
    loop
        execute format('revoke all on function %s from %s', granted.function_name,
            case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
    end loop;
end
$$;
grant execute on function enrichment_events_lookup(text[]) to service_role;
grant execute on function enrichment_event_digest(text, uuid, uuid, text, uuid, uuid, text, text, jsonb, jsonb) to service_role;
-- The list of migrations is its owner's business, whatever default privileges say.
alter table if exists __diesel_schema_migrations enable row level security;
grant insert on enrichment_events to service_role;
grant select on enrichment_events to authenticated;
