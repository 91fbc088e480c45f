create index concurrently if not exists idx_enrichment_events_bom_created on enrichment_events (bom_id, created_at desc);
