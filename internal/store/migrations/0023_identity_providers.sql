-- +goose Up
-- Identity providers at which users of a pool sign in.
CREATE TABLE pool_providers (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  pool        TEXT NOT NULL,
  name        TEXT NOT NULL,
  type        TEXT NOT NULL,  -- OIDC | Google | SignInWithApple | Facebook | LoginWithAmazon | SAML
  details     TEXT NOT NULL,  -- JSON object, without what is secret
  secret      BYTEA NOT NULL, -- sealed: JSON object of the secret details
  mapping     TEXT NOT NULL,  -- JSON object: attribute of the pool -> of the provider
  identifiers TEXT NOT NULL,  -- JSON array; the table below finds by them
  created     BIGINT NOT NULL,
  modified    BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, name)
);

CREATE TABLE pool_provider_identifiers (
  account    TEXT NOT NULL,
  region     TEXT NOT NULL,
  pool       TEXT NOT NULL,
  identifier TEXT NOT NULL,
  provider   TEXT NOT NULL,
  PRIMARY KEY (account, region, pool, identifier)
);

-- Who a user is at a provider. The subject is compared byte for byte: two that differ in case are two people.
CREATE TABLE pool_identities (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  provider TEXT NOT NULL,
  subject  TEXT NOT NULL,
  sub      TEXT NOT NULL,
  origin   BIGINT NOT NULL, -- 1: the user came into being by it; 0: it was linked to a user
  issuer   TEXT NOT NULL,   -- entity id of a SAML provider
  created  BIGINT NOT NULL,
  PRIMARY KEY (account, region, pool, provider, subject)
);
CREATE INDEX pool_identities_by_user ON pool_identities (account, region, pool, sub);

-- +goose Down
DROP TABLE pool_identities;
DROP TABLE pool_provider_identifiers;
DROP TABLE pool_providers;
