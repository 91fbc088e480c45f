-- The two roles that policies name: the ones Supabase has, made where they are missing.
-- Roles belong to the whole cluster, so another database's migration may make them at the same moment.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['service_role', 'authenticated'] loop
        begin
            if not exists (select from pg_roles where rolname = role_name) then
                execute format('create role %I nologin', role_name);
            end if;
        exception when duplicate_object or unique_violation then
            null; -- somebody else was faster
        end;
        -- One login may migrate and work: it inserts as a member of service_role and reads as authenticated.
        begin
            if not pg_has_role(current_user, role_name, 'usage') then
                execute format('grant %I to current_user', role_name);
            end if;
        exception when insufficient_privilege or unique_violation then
            raise notice '% is not a member of %: only other logins can use it', current_user, role_name;
        end;
    end loop;
end
$$;
