-- What was revoked should not have been granted: there is nothing to take back.
select 1;
