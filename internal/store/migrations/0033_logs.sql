-- +goose Up
-- Logs that people read: what rules write, and what the service tells of its own work for an account. A group that was deleted is named ~ID
-- until its entries are gone.
CREATE TABLE log_groups (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  id        TEXT NOT NULL,
  name      TEXT NOT NULL,
  created   BIGINT NOT NULL,
  keep_days BIGINT NOT NULL, -- 0: as long as the server keeps logs
  PRIMARY KEY (account, region, id)
);
CREATE UNIQUE INDEX log_groups_by_name ON log_groups (account, region, name);

CREATE TABLE log_entries (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  grp      TEXT NOT NULL,   -- id
  at       BIGINT NOT NULL, -- when it happened
  id       TEXT NOT NULL,   -- sorts by when it was stored
  stream   TEXT NOT NULL,
  ingested BIGINT NOT NULL, -- when it was stored
  bytes    BIGINT NOT NULL, -- about what it takes
  message  TEXT NOT NULL,
  PRIMARY KEY (account, region, grp, at, id)
);
CREATE INDEX log_entries_by_size ON log_entries (at, bytes);

-- +goose Down
DROP TABLE log_entries;
DROP TABLE log_groups;
