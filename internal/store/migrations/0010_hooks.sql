-- +goose Up
-- What the ARN of a pre-provisioning hook's function stands for.
CREATE TABLE functions (
  account       TEXT NOT NULL,
  region        TEXT NOT NULL,
  name          TEXT NOT NULL,
  kind          TEXT NOT NULL, -- webhook, lambda, rule
  url           TEXT NOT NULL, -- of a webhook, or of the endpoint that speaks Lambda's Invoke API
  remote        TEXT NOT NULL, -- the function's name at that endpoint
  remote_region TEXT NOT NULL, -- that requests to it are signed for
  access_key    TEXT NOT NULL,
  secret        BYTEA NOT NULL, -- sealed: signs webhooks (HMAC) or requests to Lambda (SigV4)
  rule          TEXT NOT NULL,
  timeout       BIGINT NOT NULL, -- milliseconds
  modified      BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);

-- Tables of keys that rules ask, such as the serial numbers that were shipped. A table that is deleted keeps its row until its keys
-- are gone, under an id that no other table gets.
CREATE TABLE lookup_tables (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  id      TEXT NOT NULL,
  name    TEXT NOT NULL,
  size    BIGINT NOT NULL, -- how many keys
  created BIGINT NOT NULL,
  deleted BIGINT NOT NULL, -- 0 or 1
  PRIMARY KEY (account, region, id)
);
CREATE UNIQUE INDEX lookup_tables_by_name ON lookup_tables (account, region, name) WHERE deleted = 0;
CREATE INDEX lookup_tables_deleted ON lookup_tables (id) WHERE deleted = 1;

CREATE TABLE lookup_keys (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  table_id TEXT NOT NULL,
  key      TEXT NOT NULL,
  PRIMARY KEY (account, region, table_id, key)
);

-- +goose Down
DROP TABLE lookup_keys;
DROP TABLE lookup_tables;
DROP TABLE functions;
