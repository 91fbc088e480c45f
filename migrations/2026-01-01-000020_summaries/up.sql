-- Summaries: plain tables with the events' row-level security, kept by `cns-events aggregate`. They outlive the events.
set local lock_timeout = '10s';

-- In the table's schema, wherever the search path finds that.
do $$
begin
    perform set_config('search_path', format('%I, %s', n.nspname, current_setting('search_path')), true)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'enrichment_events'::regclass;
end
$$;

-- Events by hour of created_at (UTC), type and source; types that are not known count as `other`.
create table if not exists event_counts (
    tenant_id uuid not null,
    hour timestamptz not null,
    event_type text collate "C" not null,
    source text collate "C" not null,
    events bigint not null,
    primary key (tenant_id, hour, event_type, source)
);

-- Durations of completed stages: a histogram whose buckets are 10 % apart, from 1 ms (bucket 0) to 30 days.
create table if not exists stage_times (
    tenant_id uuid not null,
    hour timestamptz not null,
    stage text collate "C" not null,
    bucket smallint not null,
    events bigint not null,
    primary key (tenant_id, hour, stage, bucket)
);

-- State of each workflow, as its events state it.
create table if not exists workflow_runs (
    tenant_id uuid not null,
    workflow_id text collate "C" not null,
    bom_id uuid not null,
    organization_id text,
    status text not null,
    stage text,
    total_items bigint,
    completed_items bigint,
    failed_items bigint,
    percent bigint,
    events bigint not null,
    errors bigint not null,
    last_error text,
    risks_critical bigint not null,
    risks_high bigint not null,
    risks_medium bigint not null,
    pauses bigint not null,
    paused_ms bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    ended_at timestamptz,
    -- What the next merge needs: who stated what, and when.
    fold jsonb not null,
    primary key (tenant_id, workflow_id, bom_id)
);
create index if not exists workflow_runs_recent on workflow_runs (tenant_id, last_at desc, workflow_id, bom_id);
create index if not exists workflow_runs_status on workflow_runs (tenant_id, status, last_at desc, workflow_id, bom_id);
create index if not exists workflow_runs_bom on workflow_runs (tenant_id, bom_id, last_at desc);
create index if not exists workflow_runs_all_recent on workflow_runs (last_at desc, workflow_id, bom_id);

-- Part numbers that a workflow's events name.
create table if not exists workflow_parts (
    tenant_id uuid not null,
    mpn text collate "C" not null,
    workflow_id text collate "C" not null,
    bom_id uuid not null,
    primary key (tenant_id, mpn, workflow_id, bom_id)
);

-- The planner does not know which tenant reads; with few distinct values it expects as many rows as the largest tenant has.
alter table workflow_runs alter column tenant_id set (n_distinct = 2);

do $$
declare
    relation text;
    granted record;
begin
    foreach relation in array array['event_counts', 'stage_times', 'workflow_runs', 'workflow_parts'] loop
        -- Default privileges (Supabase has some) grant other roles everything on a new table, also TRUNCATE, which no policy stops.
        for granted in
            select distinct a.grantee from pg_class c cross join lateral aclexplode(c.relacl) a
            where c.oid = relation::regclass and a.grantee <> c.relowner
        loop
            execute format('revoke all on %I from %s', relation,
                case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
        end loop;
        execute format('alter table %I enable row level security, force row level security', relation);
        execute format('drop policy if exists "Users can view own org summaries" on %I', relation);
        execute format('create policy "Users can view own org summaries" on %I for select to authenticated '
            'using (tenant_id = (select enrichment_tenant()))', relation);
        execute format('drop policy if exists "Support can view summaries" on %I', relation);
        execute format('create policy "Support can view summaries" on %I for select to cns_events_support '
            'using (current_user = ''cns_events_support'')', relation);
        execute format('drop policy if exists "Aggregation can write summaries" on %I', relation);
        execute format('create policy "Aggregation can write summaries" on %I to cns_events_aggregate '
            'using (current_user = ''cns_events_aggregate'') with check (current_user = ''cns_events_aggregate'')', relation);
        execute format('drop policy if exists "Retention can find summaries" on %I', relation);
        execute format('create policy "Retention can find summaries" on %I for select to cns_events_retention '
            'using (current_user = ''cns_events_retention'')', relation);
        execute format('drop policy if exists "Retention can delete summaries" on %I', relation);
        execute format('create policy "Retention can delete summaries" on %I for delete to cns_events_retention '
            'using (current_user = ''cns_events_retention'')', relation);
        execute format('grant select on %I to authenticated, cns_events_support', relation);
        execute format('grant select, insert, update, delete on %I to cns_events_aggregate', relation);
        execute format('grant delete on %I to cns_events_retention', relation);
    end loop;

    -- For those who read by SQL or PostgREST. Before PostgreSQL 15 a view cannot read as its caller, and there is none.
    if current_setting('server_version_num')::integer >= 150000 then
        execute 'create or replace view event_summaries with (security_invoker = true) as
            select tenant_id, hour, event_type, source, events from event_counts';
        execute 'create or replace view workflow_summaries with (security_invoker = true) as
            select tenant_id, workflow_id, bom_id, organization_id, status, stage, total_items, completed_items, failed_items, percent,
                events, errors, last_error, risks_critical, risks_high, risks_medium, pauses, paused_ms, first_at, last_at, ended_at
            from workflow_runs';
        for granted in
            select distinct c.oid::regclass as relation, a.grantee from pg_class c cross join lateral aclexplode(c.relacl) a
            where c.oid in ('event_summaries'::regclass, 'workflow_summaries'::regclass) and a.grantee <> c.relowner
        loop
            execute format('revoke all on %s from %s', granted.relation,
                case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
        end loop;
        execute 'grant select on event_summaries, workflow_summaries to authenticated, cns_events_support';
    end if;
end
$$;
grant select (tenant_id, hour) on event_counts, stage_times to cns_events_retention;
grant select (tenant_id, workflow_id, bom_id, last_at) on workflow_runs to cns_events_retention;
grant select (tenant_id, workflow_id, bom_id) on workflow_parts to cns_events_retention;
