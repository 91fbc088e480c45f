create index concurrently if not exists idx_enrichment_events_workflow_created on enrichment_events (workflow_id, created_at desc);
