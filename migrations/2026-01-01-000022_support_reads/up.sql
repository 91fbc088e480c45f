-- Reads of all tenants' summaries: by hour, whichever the tenant; and how far they are, by the transactions that stored something.
set local lock_timeout = '10s';

-- In the table's schema, wherever the search path finds that.
do $$
begin
    perform set_config('search_path', format('%I, %s', n.nspname, current_setting('search_path')), true)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'enrichment_events'::regclass;
end
$$;

create index if not exists event_counts_hour on event_counts (hour);
create index if not exists stage_times_hour on stage_times (hour);

drop policy if exists "Support can see how far the journal is" on enrichment_journal;
create policy "Support can see how far the journal is" on enrichment_journal
    for select to cns_events_support using (current_user = 'cns_events_support');
grant select (xact, seq) on enrichment_journal to cns_events_support;
