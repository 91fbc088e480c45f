-- Roles belong to the whole cluster and may serve other databases: they stay.
select 1;
