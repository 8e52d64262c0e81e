-- +goose Up
-- What a trace is found by stands in the trace itself: subjects are 16 hex digits for each value, of a hash over account, region and
-- value. marks has a few bits for each of them; a search goes through the marks of all traces in the index, and looks at those that have
-- the bits of what it searches. Rows of their own in the order of their hash, as in trace_subjects, took a third of all pages that a
-- registration wrote. trace_subjects gets no more rows and empties as its traces age.
ALTER TABLE traces ADD COLUMN marks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE traces ADD COLUMN subjects TEXT NOT NULL DEFAULT '';
CREATE INDEX traces_by_marks ON traces (at, bytes, marks);
DROP INDEX traces_by_size; -- the new one serves the same queries

-- +goose Down
CREATE INDEX traces_by_size ON traces (at, bytes);
DROP INDEX traces_by_marks;
ALTER TABLE traces DROP COLUMN subjects;
ALTER TABLE traces DROP COLUMN marks;
