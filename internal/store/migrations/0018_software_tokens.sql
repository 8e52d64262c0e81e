-- +goose Up
-- The software token (TOTP) of a user: the one in force, and one that is being set up and not verified yet.
CREATE TABLE pool_software_tokens (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  pool      TEXT NOT NULL,
  sub       TEXT NOT NULL,
  state     TEXT NOT NULL,   -- pending | verified
  secret    BYTEA NOT NULL,  -- sealed
  device    TEXT NOT NULL,   -- what its owner calls it
  used      BIGINT NOT NULL, -- the newest time step whose code was accepted; no code counts twice
  enabled   BIGINT NOT NULL, -- 1: its owner wants to be asked for it
  preferred BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, sub, state)
);

-- +goose Down
DROP TABLE pool_software_tokens;
