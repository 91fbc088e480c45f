-- Goes with the constraint that the next migration makes of it.
select 1;
