-- What is older than that: without it, retention reads the whole table each time.
create index concurrently if not exists idx_enrichment_events_created on enrichment_events (created_at);
