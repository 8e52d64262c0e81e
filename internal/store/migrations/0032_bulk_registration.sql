-- +goose Up
-- Bulk registrations. Lines of the input are registered up to position, and counted.
CREATE TABLE registration_tasks (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  id        TEXT NOT NULL,
  body      TEXT NOT NULL, -- template
  bucket    TEXT NOT NULL,
  object    TEXT NOT NULL, -- key of the input
  role      TEXT NOT NULL,
  status    TEXT NOT NULL, -- as in AWS
  message   TEXT NOT NULL,
  created   BIGINT NOT NULL,
  modified  BIGINT NOT NULL,
  ended     BIGINT NOT NULL, -- 0: not yet
  etag      TEXT NOT NULL,   -- of the input; '': not opened yet
  size      BIGINT NOT NULL,
  position  BIGINT NOT NULL, -- bytes
  line      BIGINT NOT NULL,
  successes BIGINT NOT NULL,
  failures  BIGINT NOT NULL,
  results   BIGINT NOT NULL, -- bytes of the reports that are on the disk
  errors    BIGINT NOT NULL,
  PRIMARY KEY (account, region, id)
);
-- An account has one task at a time.
CREATE UNIQUE INDEX registration_tasks_running ON registration_tasks (account, region) WHERE ended = 0;
CREATE INDEX registration_tasks_ended ON registration_tasks (ended) WHERE ended > 0;

-- What was reported of lines and is not on the disk yet.
CREATE TABLE registration_reports (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  task    TEXT NOT NULL,
  line    BIGINT NOT NULL, -- the last one
  results TEXT NOT NULL,
  errors  TEXT NOT NULL,
  PRIMARY KEY (account, region, task, line)
);

-- +goose Down
DROP TABLE registration_reports;
DROP TABLE registration_tasks;
