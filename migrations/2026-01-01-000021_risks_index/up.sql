-- Risk alerts are few, and asked for by themselves: a small index that other events never touch.
create index concurrently if not exists idx_enrichment_events_risks on enrichment_events (tenant_id, created_at desc) where event_type = 'risk_alert';
