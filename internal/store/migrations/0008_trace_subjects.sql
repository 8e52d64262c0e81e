-- +goose Up
-- What a trace is found by, as 64 bits of a hash over account, region and value. What is new goes to one end of the table and what is
-- old leaves at the other, hour by hour, so that writing costs the same however many traces there are. The tenant is in the hash, and
-- in the traces that it leads to. trace_keys did this before; it gets no more rows and empties as its traces age.
CREATE TABLE trace_subjects (
  hour    BIGINT NOT NULL, -- since 1970
  subject BIGINT NOT NULL,
  id      TEXT NOT NULL,   -- of the trace
  PRIMARY KEY (hour, subject, id)
);

-- +goose Down
DROP TABLE trace_subjects;
