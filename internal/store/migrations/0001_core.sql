-- +goose Up
CREATE TABLE accounts (
  account TEXT NOT NULL PRIMARY KEY,
  name    TEXT NOT NULL,
  created BIGINT NOT NULL
);

-- Settings that must not change between starts (host, region, ports), and small facts of the installation.
CREATE TABLE settings (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

-- Credentials and claims of a subject that were issued at or before `at` are dead.
CREATE TABLE cutoffs (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  subject TEXT NOT NULL,
  at      BIGINT NOT NULL,
  PRIMARY KEY (account, region, subject)
);

CREATE TABLE traces (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  id      TEXT NOT NULL,
  at      BIGINT NOT NULL,
  kind    TEXT NOT NULL,
  outcome TEXT NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (account, region, id)
);
CREATE INDEX traces_by_time ON traces (at);

CREATE TABLE trace_keys (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  subject TEXT NOT NULL,
  at      BIGINT NOT NULL,
  id      TEXT NOT NULL,
  PRIMARY KEY (account, region, subject, at, id)
);
CREATE INDEX trace_keys_by_time ON trace_keys (at);

-- +goose Down
DROP TABLE trace_keys;
DROP TABLE traces;
DROP TABLE cutoffs;
DROP TABLE settings;
DROP TABLE accounts;
