-- +goose Up
-- Jobs that make users of the lines of a file. done and line say how far a job is: they move in the transaction that makes the users.
CREATE TABLE pool_imports (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  pool      TEXT NOT NULL,
  id        TEXT NOT NULL,
  name      TEXT NOT NULL,
  role      TEXT NOT NULL,
  status    TEXT NOT NULL,   -- Created | Pending | InProgress | Stopped | Expired | Failed | Succeeded
  message   TEXT NOT NULL,   -- how it ended
  created   BIGINT NOT NULL,
  started   BIGINT NOT NULL, -- 0: not yet
  completed BIGINT NOT NULL, -- 0: not yet
  file      TEXT NOT NULL,   -- '': there is none, or none any more
  size      BIGINT NOT NULL, -- bytes of the file
  done      BIGINT NOT NULL, -- bytes of it that were worked on
  line      BIGINT NOT NULL, -- lines of it that were worked on
  imported  BIGINT NOT NULL,
  skipped   BIGINT NOT NULL,
  failed    BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_imports_by_creation ON pool_imports (account, region, pool, created, id);
CREATE INDEX pool_imports_by_status ON pool_imports (status, created);
CREATE INDEX pool_imports_by_end ON pool_imports (completed);
CREATE INDEX pool_imports_by_file ON pool_imports (account, region, file);

-- Files of such jobs, and what is left of those that nobody has any more.
CREATE TABLE pool_import_files (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  id       TEXT NOT NULL,
  received BIGINT NOT NULL, -- when it began to arrive; 0: nobody has it any more
  PRIMARY KEY (account, region, id)
);
CREATE INDEX pool_import_files_by_time ON pool_import_files (received);

CREATE TABLE pool_import_parts (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  file    TEXT NOT NULL,
  part    BIGINT NOT NULL, -- from 0; all but the last are of one length
  content BYTEA NOT NULL,
  PRIMARY KEY (account, region, file, part)
);

-- What became of each line, some lines to a row.
CREATE TABLE pool_import_log (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  job      TEXT NOT NULL,
  line     BIGINT NOT NULL, -- the last one
  troubles BIGINT NOT NULL, -- 1: not all of them were imported
  entries  TEXT NOT NULL,   -- JSON
  PRIMARY KEY (account, region, pool, job, line)
);

-- +goose Down
DROP TABLE pool_import_log;
DROP TABLE pool_import_parts;
DROP TABLE pool_import_files;
DROP TABLE pool_imports;
