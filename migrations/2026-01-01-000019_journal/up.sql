-- The journal: what was stored, in the order in which it became visible. One row for each (insert statement, tenant), written by a
-- trigger from the statement's transition table: it holds what was really stored, whoever stored it, and nothing that was rolled
-- back. A reader's position is a snapshot: new is what that snapshot does not show.
-- Making the trigger waits for the inserts at work, and later ones wait for it; after ten seconds it gives up, and can be run again.
set local lock_timeout = '10s';

-- In the table's schema, wherever the search path finds that.
do $$
begin
    perform set_config('search_path', format('%I, %s', n.nspname, current_setting('search_path')), true)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'enrichment_events'::regclass;
end
$$;

create table if not exists enrichment_journal (
    seq bigint generated always as identity primary key,
    xact xid8 not null default pg_current_xact_id(),
    stored_at timestamptz not null default now(),
    tenant_id uuid not null,
    events integer not null,
    types integer not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    ids uuid[] not null
);
comment on table enrichment_journal is 'One row for each (insert, tenant) of enrichment_events; types: a bit for each event type';
create index if not exists enrichment_journal_xact on enrichment_journal (xact);
create index if not exists enrichment_journal_tenant_xact on enrichment_journal (tenant_id, xact);

-- Facts about the journal, in one row.
create table if not exists enrichment_journal_state (
    singleton boolean primary key default true check (singleton),
    -- Cluster that the journal's transactions are of: in another one (a restore, pg_upgrade) they mean nothing.
    system_identifier bigint not null,
    -- Latest transaction whose journal rows are deleted: a position that has not passed it is too old.
    journal_pruned_to xid8 not null default '0',
    -- Time before which prune has deleted events.
    events_pruned_before timestamptz not null default '-infinity'
);
insert into enrichment_journal_state (system_identifier) select system_identifier from pg_control_system()
    on conflict do nothing;

-- Positions of this system's own readers, committed with what they feed.
create table if not exists enrichment_positions (
    name text primary key,
    -- Cluster that the snapshots are of: in another one they mean nothing.
    system_identifier bigint not null,
    -- What this snapshot shows is taken in.
    passed pg_snapshot not null,
    -- Within a look that is longer than a page: the look's snapshot, and the last row of it that is taken in.
    look pg_snapshot,
    look_xact xid8,
    look_seq bigint,
    -- Everything that was stored before this time is taken in.
    as_of timestamptz not null
);

do $$
declare
    home name := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'enrichment_events'::regclass);
    granted record;
begin
    -- It touches no JSON and casts nothing that can fail: no data can make it fail.
    execute format($trigger$
        create or replace function %1$I.enrichment_journal_write() returns trigger
        language plpgsql security definer
        set search_path = pg_catalog, pg_temp
        as $body$
        begin
            insert into %1$I.enrichment_journal (tenant_id, events, types, first_at, last_at, ids)
            select s.tenant_id, count(*)::integer, bit_or(case s.event_type::text
                    when 'processing_started' then 1
                    when 'stage_started' then 2
                    when 'stage_completed' then 4
                    when 'enrichment_progress' then 8
                    when 'risk_alert' then 16
                    when 'workflow_paused' then 32
                    when 'workflow_resumed' then 64
                    when 'error' then 128
                    when 'component_matched' then 256
                    when 'api_call_made' then 512
                    when 'cache_hit' then 1024
                    when 'cache_miss' then 2048
                    else 1073741824 -- any other
                end), min(s.created_at), max(s.created_at), array_agg(s.id)
            from stored s
            where s.tenant_id is not null and s.id is not null
            group by s.tenant_id;
            return null;
        end
        $body$
    $trigger$, home);
    execute format('revoke all on function %I.enrichment_journal_write() from public', home);
    execute format('drop trigger if exists enrichment_journal_write on %I.enrichment_events', home);
    execute format('create trigger enrichment_journal_write after insert on %1$I.enrichment_events '
        'referencing new table as stored for each statement execute function %1$I.enrichment_journal_write()', home);

    -- Default privileges (Supabase has some) grant other roles everything on a new table, also TRUNCATE, which no policy stops.
    for granted in
        select distinct c.oid::regclass as relation, a.grantee
        from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.oid in ('enrichment_journal'::regclass, 'enrichment_journal_state'::regclass, 'enrichment_positions'::regclass)
          and a.grantee <> c.relowner
    loop
        execute format('revoke all on %s from %s', granted.relation,
            case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
    end loop;
end
$$;

alter table enrichment_journal enable row level security, force row level security;
-- The trigger's function runs as the owner, who is subject to FORCE too.
drop policy if exists "Trigger can write the journal" on enrichment_journal;
create policy "Trigger can write the journal" on enrichment_journal
    for insert to current_user with check (true);
drop policy if exists "Users can view own org journal" on enrichment_journal;
create policy "Users can view own org journal" on enrichment_journal
    for select to authenticated using (tenant_id = (select enrichment_tenant()));
drop policy if exists "Aggregation can read the journal" on enrichment_journal;
create policy "Aggregation can read the journal" on enrichment_journal
    for select to cns_events_aggregate using (current_user = 'cns_events_aggregate');
drop policy if exists "Aggregation can empty the journal" on enrichment_journal;
create policy "Aggregation can empty the journal" on enrichment_journal
    for delete to cns_events_aggregate using (current_user = 'cns_events_aggregate');
drop policy if exists "Retention can read the journal" on enrichment_journal;
create policy "Retention can read the journal" on enrichment_journal
    for select to cns_events_retention using (current_user = 'cns_events_retention');
drop policy if exists "Retention can delete from the journal" on enrichment_journal;
create policy "Retention can delete from the journal" on enrichment_journal
    for delete to cns_events_retention using (current_user = 'cns_events_retention');
grant select on enrichment_journal to authenticated;
grant select, delete on enrichment_journal to cns_events_aggregate;
grant select (seq, xact, stored_at, first_at), delete on enrichment_journal to cns_events_retention;

-- Nothing of a tenant's is in these two.
grant select on enrichment_journal_state, enrichment_positions to authenticated, cns_events_support;
grant select, update on enrichment_journal_state to cns_events_aggregate;
grant select, insert, update, delete on enrichment_positions to cns_events_aggregate;
grant select, update on enrichment_journal_state to cns_events_retention;
grant select, delete on enrichment_positions to cns_events_retention;
