-- +goose Up
-- With all columns: since the rows are in the primary key, SQLite would rather go through all ties of an account than look up one column
-- of those that this index finds.
DROP INDEX thing_principals_by_principal;
CREATE INDEX thing_principals_by_principal ON thing_principals (account, region, principal, thing, type);

-- +goose Down
DROP INDEX thing_principals_by_principal;
CREATE INDEX thing_principals_by_principal ON thing_principals (account, region, principal, thing);
