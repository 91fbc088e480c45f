create index concurrently if not exists idx_enrichment_events_payload_path on enrichment_events using gin (payload jsonb_path_ops);
