drop function if exists enrichment_events_lookup(text[], uuid[]);
