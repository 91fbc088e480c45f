create unique index concurrently if not exists enrichment_events_event_id_key on enrichment_events (event_id collate "C");
