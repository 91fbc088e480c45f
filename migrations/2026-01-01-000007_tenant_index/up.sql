create index concurrently if not exists idx_enrichment_events_tenant_created on enrichment_events (tenant_id, created_at desc);
