-- +goose Up
-- A claim is for one making of a template: if that is deleted and made anew, in the same millisecond even, the claim stays dead.
ALTER TABLE templates ADD COLUMN generation TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN generation TEXT NOT NULL DEFAULT '';
UPDATE templates SET generation = 'earlier';
UPDATE claims SET generation = COALESCE((SELECT t.generation FROM templates t
  WHERE t.account = claims.account AND t.region = claims.region AND t.name = claims.template AND t.created <= claims.created), 'gone');

ALTER TABLE claims ADD COLUMN limits TEXT NOT NULL DEFAULT ''; -- JSON

-- 1: there is a row in bootstraps, which need not be asked in vain.
ALTER TABLE certificates ADD COLUMN limited BIGINT NOT NULL DEFAULT 0;

-- Hex SHA-256 of the certificate's public key, which outlives the certificate; '' for those before this version.
ALTER TABLE registrations ADD COLUMN key_hash TEXT NOT NULL DEFAULT '';

-- What is said of registered certificates that serve as shared claims.
CREATE TABLE bootstraps (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  certificate TEXT NOT NULL,
  budget      TEXT NOT NULL, -- certificate id under which claim_uses counts
  limits      TEXT NOT NULL, -- JSON
  successor   TEXT NOT NULL,
  ends        BIGINT NOT NULL, -- when it is deactivated; 0: not planned
  modified    BIGINT NOT NULL,
  PRIMARY KEY (account, region, certificate)
);
CREATE INDEX bootstraps_by_end ON bootstraps (ends) WHERE ends > 0;

-- How many devices were registered with a claim, where that is bounded.
CREATE TABLE claim_uses (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  budget  TEXT NOT NULL, -- id of a claim, or of the first of some bootstrap certificates
  devices BIGINT NOT NULL,
  PRIMARY KEY (account, region, budget)
);

-- Devices that ask for a thing that another one has, until an operator has decided.
CREATE TABLE approvals (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  id          TEXT NOT NULL,
  thing       TEXT NOT NULL,
  key_hash    TEXT NOT NULL,
  state       TEXT NOT NULL,
  template    TEXT NOT NULL,
  principal   TEXT NOT NULL,
  certificate TEXT NOT NULL,
  client      TEXT NOT NULL,
  address     TEXT NOT NULL,
  trace       TEXT NOT NULL,
  attempts    BIGINT NOT NULL,
  replaces    BIGINT NOT NULL, -- 0 or 1
  decided_by  TEXT NOT NULL,
  created     BIGINT NOT NULL,
  decided     BIGINT NOT NULL,
  expires     BIGINT NOT NULL,
  PRIMARY KEY (account, region, id)
);
CREATE UNIQUE INDEX approvals_by_subject ON approvals (account, region, thing, key_hash) WHERE state <> 'USED';
CREATE INDEX approvals_by_state ON approvals (account, region, state, id);
CREATE INDEX approvals_by_expiry ON approvals (expires);

-- +goose Down
DROP TABLE approvals;
DROP TABLE claim_uses;
DROP TABLE bootstraps;
ALTER TABLE registrations DROP COLUMN key_hash;
ALTER TABLE certificates DROP COLUMN limited;
ALTER TABLE claims DROP COLUMN limits;
ALTER TABLE claims DROP COLUMN generation;
ALTER TABLE templates DROP COLUMN generation;
