-- +goose Up
-- What ends soon, of all accounts, for the metrics: counted from the index alone.
CREATE INDEX certificates_ending ON certificates (not_after, status) WHERE not_after < 2493072000000;

-- +goose Down
DROP INDEX certificates_ending;
