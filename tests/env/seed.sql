-- The table that a Python service and Supabase may have left: the facts of it, as far as the migrations care.
do $$ begin create role authenticated nologin; exception when duplicate_object or unique_violation then null; end $$;
do $$ begin create role anon nologin; exception when duplicate_object or unique_violation then null; end $$;
alter default privileges in schema public grant all on functions to anon, authenticated;
alter default privileges in schema public grant all on tables to anon, authenticated;
create schema auth;
create function auth.jwt() returns jsonb language sql stable as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

create table enrichment_events (
    id uuid primary key default gen_random_uuid(),
    event_id varchar(255) unique not null,
    event_type varchar(100) not null,
    routing_key varchar(255),
    bom_id uuid not null,
    tenant_id uuid not null,
    project_id uuid,
    user_id uuid,
    source varchar(20) not null check (source in ('customer', 'staff')),
    workflow_id varchar(255),
    workflow_run_id varchar(255),
    state jsonb not null,
    payload jsonb not null,
    created_at timestamptz default now()
);
create unique index one_more_unique on enrichment_events (event_id);
create index idx_enrichment_events_bom on enrichment_events (bom_id, created_at desc);
create index idx_enrichment_events_tenant_created on enrichment_events (tenant_id, created_at desc);
create index idx_enrichment_events_type_created on enrichment_events (event_type, created_at desc);
create index idx_enrichment_events_workflow on enrichment_events (workflow_id);
create index idx_enrichment_events_payload on enrichment_events using gin (payload);

alter table enrichment_events enable row level security;
create policy "Users can view own org enrichment events" on enrichment_events for select
    using (tenant_id = coalesce((auth.jwt() -> 'user_metadata' ->> 'tenant_id')::uuid, (auth.jwt() ->> 'tenant_id')::uuid));
create policy "Staff can view all enrichment events" on enrichment_events for select
    using ((auth.jwt() ->> 'role') = 'staff');
create policy "Service role can insert enrichment events" on enrichment_events for insert with check (true);
grant select on enrichment_events to authenticated;
