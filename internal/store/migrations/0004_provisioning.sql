-- +goose Up
CREATE TABLE templates (
  account         TEXT NOT NULL,
  region          TEXT NOT NULL,
  name            TEXT NOT NULL,
  description     TEXT NOT NULL,
  type            TEXT NOT NULL,
  role_arn        TEXT NOT NULL,
  enabled         INTEGER NOT NULL, -- 0 never said, 1 enabled, 2 disabled
  default_version BIGINT NOT NULL,
  last_version    BIGINT NOT NULL, -- ids are never used again
  hook_version    TEXT NOT NULL,
  hook_target     TEXT NOT NULL, -- '' for no hook
  created         BIGINT NOT NULL,
  modified        BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);

CREATE TABLE template_versions (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  template TEXT NOT NULL,
  id       BIGINT NOT NULL,
  body     TEXT NOT NULL,
  created  BIGINT NOT NULL,
  PRIMARY KEY (account, region, template, id)
);

-- Temporary certificates of the trusted-user flow.
CREATE TABLE claims (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  id        TEXT NOT NULL,
  subject   TEXT NOT NULL,
  template  TEXT NOT NULL,
  created   BIGINT NOT NULL,
  expires   BIGINT NOT NULL,
  revoked   BIGINT NOT NULL, -- 0: live
  installer TEXT NOT NULL, -- JSON
  PRIMARY KEY (account, region, id)
);
-- The gateway knows a fingerprint before it knows a scope.
CREATE UNIQUE INDEX claims_by_id ON claims (id);
CREATE INDEX claims_by_template ON claims (account, region, template, created, id);
CREATE INDEX claims_by_expiry ON claims (expires);

-- What each ownership token was spent on: which thing a certificate was registered for, who stood behind it, and for an hour
-- the answer that a repeated request gets.
CREATE TABLE registrations (
  account       TEXT NOT NULL,
  region        TEXT NOT NULL,
  certificate   TEXT NOT NULL,
  thing         TEXT NOT NULL, -- '' when the template has none
  template      TEXT NOT NULL,
  version       BIGINT NOT NULL,
  principal     TEXT NOT NULL, -- claim or certificate id that asked
  installer     TEXT NOT NULL, -- JSON
  parameters    TEXT NOT NULL, -- hex SHA-256: a repeated request has the same
  configuration TEXT NOT NULL, -- JSON
  created       BIGINT NOT NULL,
  replay_until  BIGINT NOT NULL, -- 0: no more
  PRIMARY KEY (account, region, certificate)
);
CREATE INDEX registrations_by_thing ON registrations (account, region, thing, created);
CREATE INDEX registrations_by_replay ON registrations (replay_until) WHERE replay_until > 0;

-- Certificates that wait for their registration, by who asked.
CREATE INDEX certificates_pending ON certificates (account, region, origin_claim) WHERE expires > 0;

-- +goose Down
DROP INDEX certificates_pending;
DROP TABLE registrations;
DROP TABLE claims;
DROP TABLE template_versions;
DROP TABLE templates;
