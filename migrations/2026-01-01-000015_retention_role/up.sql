-- Who deletes what is old enough: a role that finds rows by their age, sees nothing else of them, and deletes.
-- Roles belong to the whole cluster, so another database's migration may make it at the same moment.
set local lock_timeout = '10s';

do $$
begin
    begin
        if not exists (select from pg_roles where rolname = 'cns_events_retention') then
            create role cns_events_retention nologin;
        end if;
    exception
        when duplicate_object or unique_violation then
            null; -- somebody else was faster
        when insufficient_privilege then
            raise notice '% may not make the role cns_events_retention: without it nothing is pruned. Make it, and run this file again', current_user;
    end;
    if not exists (select from pg_roles where rolname = 'cns_events_retention') then
        return;
    end if;
    -- One login may migrate and prune.
    begin
        if not pg_has_role(current_user, 'cns_events_retention', 'usage') then
            grant cns_events_retention to current_user;
        end if;
    exception when insufficient_privilege or unique_violation then
        raise notice '% is not a member of cns_events_retention: only other logins can use it', current_user;
    end;

    -- For whoever has become the role, and not for every member: the owner may be one, and sees no rows.
    if not exists (
        select from pg_policies where schemaname = current_schema() and tablename = 'enrichment_events'
          and policyname = 'Retention can find enrichment events by age'
    ) then
        create policy "Retention can find enrichment events by age" on enrichment_events
            for select to cns_events_retention using (current_user = 'cns_events_retention');
    end if;
    if not exists (
        select from pg_policies where schemaname = current_schema() and tablename = 'enrichment_events'
          and policyname = 'Retention can delete enrichment events'
    ) then
        create policy "Retention can delete enrichment events" on enrichment_events
            for delete to cns_events_retention using (current_user = 'cns_events_retention');
    end if;
    grant select (id, created_at), delete on enrichment_events to cns_events_retention;
    execute format('grant usage on schema %I to cns_events_retention', current_schema());
end
$$;
