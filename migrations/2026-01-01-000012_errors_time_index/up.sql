-- The same for operators, who ask for every tenant's.
create index concurrently if not exists idx_enrichment_events_errors_time on enrichment_events (created_at desc) where event_type = 'error';
