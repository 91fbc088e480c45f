set local lock_timeout = '10s';
do $$
begin
    if to_regclass('enrichment_events') is not null then
        drop trigger if exists enrichment_journal_write on enrichment_events;
    end if;
end
$$;
drop function if exists enrichment_journal_write();
drop table if exists enrichment_positions;
drop table if exists enrichment_journal_state;
drop table if exists enrichment_journal;
