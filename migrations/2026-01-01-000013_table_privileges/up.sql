-- Default privileges (Supabase has some) grant these roles everything on a new table, TRUNCATE too, which no policy stops.
-- On a table made here they have what the contract gives them; what an existing table grants is its owner's business.
set local lock_timeout = '10s';

do $$
declare
    granted record;
begin
    if coalesce(obj_description('enrichment_events'::regclass, 'pg_class') like 'Made by cns-events%', false) then
        for granted in
            select distinct a.grantee
            from pg_class c cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
            where c.oid = 'enrichment_events'::regclass and a.grantee <> c.relowner
              and (a.grantee = 0 or a.grantee::regrole::text in ('anon', 'authenticated', 'service_role'))
        loop
            execute format('revoke all on enrichment_events from %s',
                case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
        end loop;
    end if;
end
$$;
grant insert on enrichment_events to service_role;
grant select on enrichment_events to authenticated;
