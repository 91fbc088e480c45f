set local lock_timeout = '10s';

revoke select (xact, seq) on enrichment_journal from cns_events_support;
drop policy if exists "Support can see how far the journal is" on enrichment_journal;
drop index if exists stage_times_hour;
drop index if exists event_counts_hour;
