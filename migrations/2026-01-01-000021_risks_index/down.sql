drop index if exists idx_enrichment_events_risks;
