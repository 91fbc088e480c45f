drop function if exists enrichment_events_lookup(text[]);
drop function if exists enrichment_event_digest(text, uuid, uuid, text, uuid, uuid, text, text, jsonb, jsonb);
drop policy if exists "Lookup function can compare enrichment events" on enrichment_events;

do $$
begin
    if obj_description(to_regclass('enrichment_events'), 'pg_class') like 'Made by cns-events%' then
        drop policy if exists "Service role can insert enrichment events" on enrichment_events;
        drop policy if exists "Users can view own org enrichment events" on enrichment_events;
        alter table enrichment_events no force row level security, disable row level security;
        revoke insert on enrichment_events from service_role;
        revoke select on enrichment_events from authenticated;
    end if;
end
$$;
