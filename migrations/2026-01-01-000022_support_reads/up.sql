-- Reads of all tenants' summaries: by hour, whichever the tenant.
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

-- As a subquery: the planner takes a comparison of the role for one that one row of 200 meets, and sorts where an index has the order.
do $$
declare
    relation text;
begin
    foreach relation in array array['event_counts', 'stage_times', 'workflow_runs', 'workflow_parts'] loop
        execute format('alter policy "Support can view summaries" on %I using ((select current_user = ''cns_events_support''))', relation);
    end loop;
end
$$;
