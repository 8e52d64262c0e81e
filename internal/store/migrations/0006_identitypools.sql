-- +goose Up
CREATE TABLE identity_pools (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  id       TEXT NOT NULL,
  name     TEXT NOT NULL,
  settings TEXT NOT NULL, -- JSON object, written and read by the rules
  tags     TEXT NOT NULL, -- JSON object
  created  BIGINT NOT NULL,
  PRIMARY KEY (account, region, id)
);
-- Unsigned requests name a pool or an identity and no scope.
CREATE UNIQUE INDEX identity_pools_by_id ON identity_pools (id);

CREATE TABLE identities (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  id       TEXT NOT NULL,
  created  BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, id)
);
CREATE UNIQUE INDEX identities_by_id ON identities (id);

-- A login is a person at a provider; it belongs to one identity of a pool, which has one login of each provider.
CREATE TABLE identity_logins (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  provider TEXT NOT NULL,
  subject  TEXT NOT NULL,
  identity TEXT NOT NULL,
  PRIMARY KEY (account, region, pool, provider, subject)
);
CREATE UNIQUE INDEX identity_logins_by_identity ON identity_logins (account, region, pool, identity, provider);

-- +goose Down
DROP TABLE identity_logins;
DROP TABLE identities;
DROP TABLE identity_pools;
