set local lock_timeout = '10s';

do $$
declare
    relation text;
begin
    foreach relation in array array['event_counts', 'stage_times', 'workflow_runs', 'workflow_parts'] loop
        execute format('alter policy "Support can view summaries" on %I using (current_user = ''cns_events_support'')', relation);
    end loop;
end
$$;
drop index if exists stage_times_hour;
drop index if exists event_counts_hour;
