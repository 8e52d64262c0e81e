-- +goose Up
-- The passkeys of the users of a pool. Their private keys are in phones and security keys: nothing here is secret.
CREATE TABLE pool_passkeys (
  account    TEXT NOT NULL,
  region     TEXT NOT NULL,
  pool       TEXT NOT NULL,
  id         TEXT NOT NULL,   -- of the credential, base64url; another user cannot have the same
  sub        TEXT NOT NULL,
  party      TEXT NOT NULL,   -- relying party: a passkey is of no use to another
  public     BYTEA NOT NULL,  -- COSE_Key
  count      BIGINT NOT NULL, -- signatures that its authenticator has told of; 0: it does not count
  backup     BIGINT NOT NULL, -- 1: it may be copied to other devices of its owner
  both_factors BIGINT NOT NULL, -- 1: its owner wants it to count as the second factor, too
  name       TEXT NOT NULL,
  attachment TEXT NOT NULL,   -- platform | cross-platform | empty
  transports TEXT NOT NULL,   -- JSON array
  created    BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_passkeys_by_user ON pool_passkeys (account, region, pool, sub);

-- +goose Down
DROP TABLE pool_passkeys;
