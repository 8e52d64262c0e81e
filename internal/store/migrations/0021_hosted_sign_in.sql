-- +goose Up
-- Where the sign-in pages of a pool are: below a prefix of our own origin, or on a host name of their own.
CREATE TABLE user_pool_domains (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  domain   TEXT NOT NULL,
  custom   BIGINT NOT NULL, -- 1: a host name
  settings TEXT NOT NULL,   -- JSON object, written and read by the rules
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region, domain)
);
-- Browsers name no scope.
CREATE UNIQUE INDEX user_pool_domains_by_name ON user_pool_domains (domain);
CREATE INDEX user_pool_domains_by_pool ON user_pool_domains (account, region, pool);

CREATE TABLE user_pool_resource_servers (
  account    TEXT NOT NULL,
  region     TEXT NOT NULL,
  pool       TEXT NOT NULL,
  identifier TEXT NOT NULL,
  name       TEXT NOT NULL,
  scopes     TEXT NOT NULL, -- JSON array, written and read by the rules
  PRIMARY KEY (account, region, pool, identifier)
);

-- What the pages of a client, or of all clients of a pool, look like.
CREATE TABLE user_pool_looks (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  client   TEXT NOT NULL, -- ALL, or a client's id
  css      TEXT NOT NULL,
  image    BYTEA NOT NULL,
  created  BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, client)
);

-- Browsers in which somebody is signed in at the pages of a pool.
CREATE TABLE pool_browsers (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  pool      TEXT NOT NULL,
  id        TEXT NOT NULL, -- SHA-256 of the cookie
  sub       TEXT NOT NULL,
  auth_time BIGINT NOT NULL,
  expires   BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_browsers_by_user ON pool_browsers (account, region, pool, sub);
CREATE INDEX pool_browsers_by_expiry ON pool_browsers (expires);

-- Authorization codes on their way to a client. A spent one stays until it would have expired: it tells of whoever brings it again.
CREATE TABLE pool_auth_codes (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  pool      TEXT NOT NULL,
  id        TEXT NOT NULL,   -- SHA-256 of the code
  client    TEXT NOT NULL,
  sub       TEXT NOT NULL,
  redirect  TEXT NOT NULL,   -- redirect_uri as the request had it
  scope     TEXT NOT NULL,
  nonce     TEXT NOT NULL,
  challenge TEXT NOT NULL,   -- of PKCE; empty: none
  auth_time BIGINT NOT NULL,
  expires   BIGINT NOT NULL,
  session   TEXT NOT NULL,   -- the session that it was traded for; empty: none yet
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_auth_codes_by_user ON pool_auth_codes (account, region, pool, sub);
CREATE INDEX pool_auth_codes_by_expiry ON pool_auth_codes (expires);

-- What a session may do: the scopes that its client was granted; empty for sessions of the API, which may all that people may.
ALTER TABLE pool_sessions ADD COLUMN scope TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE pool_sessions DROP COLUMN scope;
DROP TABLE pool_auth_codes;
DROP TABLE pool_browsers;
DROP TABLE user_pool_looks;
DROP TABLE user_pool_resource_servers;
DROP TABLE user_pool_domains;
