-- The table, or an existing one (Supabase, with rows and a writer at work) brought into shape. Locks are short here;
-- what has to read every row comes in migrations of its own.
set local lock_timeout = '10s';

do $$
declare
    problem text;
    wanted record;
    existing name;
begin
    if to_regclass('enrichment_events') is null then
        create table enrichment_events (
            id uuid primary key default gen_random_uuid(),
            event_id varchar(255) collate "C" not null,
            event_type varchar(100) not null,
            routing_key varchar(255),
            bom_id uuid not null,
            tenant_id uuid not null,
            organization_id text,
            project_id uuid,
            user_id uuid,
            source varchar(20) not null constraint enrichment_events_source_check check (source in ('customer', 'staff')),
            workflow_id varchar(255),
            state jsonb not null default '{}',
            payload jsonb not null default '{}',
            created_at timestamptz not null default now()
        );
        -- Reverting drops only a table that carries this comment.
        comment on table enrichment_events is 'Made by cns-events: one row for every event that CNS workflows published';
        return;
    end if;

    select string_agg(format('%s %s', w.column_name, w.type_name), ', ') into problem
    from (values ('id', 'uuid'), ('event_id', 'character varying'), ('event_type', 'character varying'), ('bom_id', 'uuid'),
                 ('tenant_id', 'uuid'), ('source', 'character varying'), ('state', 'jsonb'), ('payload', 'jsonb'),
                 ('created_at', 'timestamp with time zone')) w (column_name, type_name)
    where not exists (
        select from pg_attribute a
        where a.attrelid = 'enrichment_events'::regclass and a.attname = w.column_name and not a.attisdropped
          and (format_type(a.atttypid, null) = w.type_name
               or w.type_name = 'character varying' and format_type(a.atttypid, null) = 'text'));
    if problem is not null then
        raise exception 'the existing table enrichment_events is not one that can be migrated in place: it lacks %', problem
            using hint = 'Rename that table, migrate again, and copy what it holds into the new one.';
    end if;

    alter table enrichment_events
        add column if not exists routing_key varchar(255),
        add column if not exists organization_id text,
        add column if not exists project_id uuid,
        add column if not exists user_id uuid,
        add column if not exists workflow_id varchar(255);
    alter table enrichment_events
        alter column created_at set default now(),
        alter column state set default '{}',
        alter column payload set default '{}';
    if not exists (
        select from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where d.adrelid = 'enrichment_events'::regclass and a.attname = 'id'
    ) then
        alter table enrichment_events alter column id set default gen_random_uuid();
    end if;

    -- Not valid yet: new rows are checked from here on, the existing ones by the next migration.
    if exists (
        select from pg_attribute
        where attrelid = 'enrichment_events'::regclass and attname = 'created_at' and not attnotnull
    ) then
        alter table enrichment_events
            add constraint enrichment_events_created_at_present check (created_at is not null) not valid;
    end if;
    if not exists (
        select from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
        where c.conrelid = 'enrichment_events'::regclass and c.contype = 'c' and a.attname = 'source'
    ) then
        alter table enrichment_events
            add constraint enrichment_events_source_check check (source in ('customer', 'staff')) not valid;
    end if;

    -- The name of the unique constraint is needed for its successor, unless it is what is wanted already.
    if exists (
        select from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = 'enrichment_events'::regclass and c.relname = 'enrichment_events_event_id_key'
          and i.indcollation[0] <> 'pg_catalog."C"'::regcollation
    ) then
        alter index enrichment_events_event_id_key rename to enrichment_events_event_id_key_before;
    end if;

    -- An index that exists under another name is given the name that the next migrations look for.
    for wanted in
        select * from (values
            ('idx_enrichment_events_bom_created', 'btree (bom_id, created_at DESC)'),
            ('idx_enrichment_events_tenant_created', 'btree (tenant_id, created_at DESC)'),
            ('idx_enrichment_events_workflow_created', 'btree (workflow_id, created_at DESC)'),
            ('idx_enrichment_events_payload_path', 'gin (payload jsonb_path_ops)')) w (index_name, definition)
        where to_regclass(w.index_name) is null
    loop
        select c.relname into existing
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = 'enrichment_events'::regclass and i.indisvalid and not i.indisunique
          and pg_get_indexdef(i.indexrelid) like '% USING ' || wanted.definition
        limit 1;
        if found then
            execute format('alter index %I rename to %I', existing, wanted.index_name);
        end if;
    end loop;
end
$$;
