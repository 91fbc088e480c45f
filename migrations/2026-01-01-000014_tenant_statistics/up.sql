-- The planner does not know which tenant reads: row-level security finds that out when the query runs. It takes a tenant of
-- average size then, and where there are thousands of tenants prefers the index of tenants to that of a BOM, which is slow for
-- whoever has a large part of the table. With few distinct values it expects as many rows as the largest tenant has.
set local lock_timeout = '10s';
alter table enrichment_events alter column tenant_id set (n_distinct = 2);
analyze enrichment_events (tenant_id);
