-- +goose Up
CREATE TABLE user_pools (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  id       TEXT NOT NULL,
  name     TEXT NOT NULL,
  settings TEXT NOT NULL,   -- JSON object, written and read by the rules
  tags     TEXT NOT NULL,   -- JSON object
  secret   BYTEA NOT NULL,  -- sealed: what answers for unknown users are derived from
  deleting BIGINT NOT NULL, -- 1: gone for everybody, its users are being removed in chunks
  created  BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region, id)
);
-- Unsigned requests name a pool or a client and no scope.
CREATE UNIQUE INDEX user_pools_by_id ON user_pools (id);
CREATE INDEX user_pools_deleting ON user_pools (deleting) WHERE deleting <> 0;

CREATE TABLE user_pool_keys (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  pool    TEXT NOT NULL,
  kid     TEXT NOT NULL,
  purpose TEXT NOT NULL,  -- id | access
  private BYTEA NOT NULL, -- sealed PKCS #8
  public  BYTEA NOT NULL, -- PKIX
  created BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, kid)
);

CREATE TABLE user_pool_clients (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  id       TEXT NOT NULL,
  name     TEXT NOT NULL,
  settings TEXT NOT NULL,  -- JSON object
  secret   BYTEA NOT NULL, -- sealed; empty for a public client
  created  BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, id)
);
CREATE UNIQUE INDEX user_pool_clients_by_id ON user_pool_clients (id);

CREATE TABLE pool_users (
  account         TEXT NOT NULL,
  region          TEXT NOT NULL,
  pool            TEXT NOT NULL,
  username        TEXT NOT NULL,   -- canonical; the verifier is computed over it
  sub             TEXT NOT NULL,
  status          TEXT NOT NULL,
  enabled         BIGINT NOT NULL,
  salt            BYTEA NOT NULL,
  verifier        BYTEA NOT NULL,  -- sealed SRP verifier
  history         BYTEA NOT NULL,  -- sealed salts and verifiers of earlier passwords
  password_set    BIGINT NOT NULL,
  temporary_until BIGINT NOT NULL, -- end of a temporary password; 0: not temporary
  signed_out      BIGINT NOT NULL, -- tokens issued at or before are dead
  created         BIGINT NOT NULL,
  modified        BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, username)
);
CREATE UNIQUE INDEX pool_users_by_sub ON pool_users (account, region, pool, sub);

CREATE TABLE pool_user_attributes (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  pool    TEXT NOT NULL,
  sub     TEXT NOT NULL,
  name    TEXT NOT NULL,
  value   TEXT NOT NULL,
  PRIMARY KEY (account, region, pool, sub, name)
);
CREATE INDEX pool_user_attributes_by_value ON pool_user_attributes (account, region, pool, name, value, sub);

-- Names other than the username under which somebody may sign in.
CREATE TABLE pool_user_aliases (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  pool    TEXT NOT NULL,
  kind    TEXT NOT NULL, -- email | phone_number | preferred_username
  value   TEXT NOT NULL, -- folded as the pool folds
  sub     TEXT NOT NULL,
  PRIMARY KEY (account, region, pool, kind, value)
);
CREATE INDEX pool_user_aliases_by_sub ON pool_user_aliases (account, region, pool, sub);

CREATE TABLE pool_groups (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  pool        TEXT NOT NULL,
  name        TEXT NOT NULL,
  description TEXT NOT NULL,
  role_arn    TEXT NOT NULL,
  precedence  BIGINT NOT NULL, -- -1: none
  created     BIGINT NOT NULL,
  modified    BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, name)
);

CREATE TABLE pool_group_members (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  pool    TEXT NOT NULL,
  sub     TEXT NOT NULL,
  grp     TEXT NOT NULL,
  PRIMARY KEY (account, region, pool, sub, grp)
);
CREATE INDEX pool_group_members_by_group ON pool_group_members (account, region, pool, grp, sub);

-- A session is one sign-in with everything that was refreshed from it; its id is the tokens' origin_jti.
CREATE TABLE pool_sessions (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  pool      TEXT NOT NULL,
  id        TEXT NOT NULL,
  sub       TEXT NOT NULL,
  client    TEXT NOT NULL,
  auth_time BIGINT NOT NULL,
  expires   BIGINT NOT NULL,
  revoked   BIGINT NOT NULL, -- 0: live
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_sessions_by_user ON pool_sessions (account, region, pool, sub);
CREATE INDEX pool_sessions_by_expiry ON pool_sessions (expires);

CREATE TABLE pool_refresh_tokens (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  pool    TEXT NOT NULL,
  id      TEXT NOT NULL,
  session TEXT NOT NULL,
  hash    BYTEA NOT NULL,  -- SHA-256 of its 256-bit secret
  expires BIGINT NOT NULL,
  rotated BIGINT NOT NULL, -- when it was traded for the next one; 0: never
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_refresh_tokens_by_session ON pool_refresh_tokens (account, region, pool, session);
CREATE INDEX pool_refresh_tokens_by_expiry ON pool_refresh_tokens (expires);

CREATE TABLE pool_user_codes (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  pool      TEXT NOT NULL,
  sub       TEXT NOT NULL,
  purpose   TEXT NOT NULL,  -- signup | recover | verify:ATTRIBUTE
  code      BYTEA NOT NULL, -- sealed
  attribute TEXT NOT NULL,
  value     TEXT NOT NULL,  -- the address it was sent to
  failures  BIGINT NOT NULL,
  expires   BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, sub, purpose)
);
CREATE INDEX pool_user_codes_by_expiry ON pool_user_codes (expires);

-- Counters of attempts, of names that exist and of names that do not: both look the same from outside.
CREATE TABLE pool_attempts (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  pool    TEXT NOT NULL,
  subject TEXT NOT NULL, -- a hash of the name
  action  TEXT NOT NULL,
  count   BIGINT NOT NULL,
  until   BIGINT NOT NULL, -- locked until, or the end of the window
  expires BIGINT NOT NULL, -- forgotten after
  PRIMARY KEY (account, region, pool, subject, action)
);
CREATE INDEX pool_attempts_by_expiry ON pool_attempts (expires);

-- Sealed challenges that have been answered, until they would have expired anyway.
CREATE TABLE pool_spent_challenges (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  pool    TEXT NOT NULL,
  id      TEXT NOT NULL,
  expires BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_spent_challenges_by_expiry ON pool_spent_challenges (expires);

-- +goose Down
DROP TABLE pool_spent_challenges;
DROP TABLE pool_attempts;
DROP TABLE pool_user_codes;
DROP TABLE pool_refresh_tokens;
DROP TABLE pool_sessions;
DROP TABLE pool_group_members;
DROP TABLE pool_groups;
DROP TABLE pool_user_aliases;
DROP TABLE pool_user_attributes;
DROP TABLE pool_users;
DROP TABLE user_pool_clients;
DROP TABLE user_pool_keys;
DROP TABLE user_pools;
