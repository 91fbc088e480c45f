set local lock_timeout = '10s';
drop view if exists workflow_summaries;
drop view if exists event_summaries;
drop table if exists workflow_parts;
drop table if exists workflow_runs;
drop table if exists stage_times;
drop table if exists event_counts;

do $$
begin
    -- What stands in no summary any more has to be summed up again.
    if to_regclass('enrichment_positions') is not null then
        delete from enrichment_positions where name = 'aggregate';
    end if;
end
$$;
