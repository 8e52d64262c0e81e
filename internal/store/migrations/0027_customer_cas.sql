-- +goose Up
-- CAs of customers.
CREATE TABLE ca_certificates (
  account       TEXT NOT NULL,
  region        TEXT NOT NULL,
  id            TEXT NOT NULL, -- certificate id
  pem           TEXT NOT NULL,
  subject       TEXT NOT NULL, -- hex SHA-256 of the subject's DER: certificates name their issuer by it
  key_hash      TEXT NOT NULL, -- hex SHA-256 of the public key
  status        TEXT NOT NULL,
  mode          TEXT NOT NULL,
  auto          BIGINT NOT NULL, -- 1: certificates that it has signed are registered at their first connection
  template      TEXT NOT NULL, -- name of a JITP template, ''
  body          TEXT NOT NULL, -- body of a JITP template, ''
  role_arn      TEXT NOT NULL,
  not_before    BIGINT NOT NULL,
  not_after     BIGINT NOT NULL,
  created       BIGINT NOT NULL,
  modified      BIGINT NOT NULL,
  version       BIGINT NOT NULL,
  generation    TEXT NOT NULL,
  PRIMARY KEY (account, region, id)
);
-- Of a stranger the gateway knows a region and an issuer, not always an account.
CREATE INDEX ca_certificates_by_subject ON ca_certificates (region, subject);
CREATE INDEX ca_certificates_by_id ON ca_certificates (region, id);
CREATE INDEX ca_certificates_by_time ON ca_certificates (account, region, created, id);
CREATE INDEX ca_certificates_by_template ON ca_certificates (account, region, template) WHERE template <> '';

CREATE TABLE registration_codes (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  code    TEXT NOT NULL,
  PRIMARY KEY (account, region)
);

-- Why a certificate that its first connection has registered still waits for its activation.
CREATE TABLE first_connections (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  certificate TEXT NOT NULL,
  reason      TEXT NOT NULL,
  cure        TEXT NOT NULL,
  trace       TEXT NOT NULL, -- id of the trace that tells more
  tried       BIGINT NOT NULL, -- when
  PRIMARY KEY (account, region, certificate)
);

CREATE INDEX certificates_waiting ON certificates (account, region, ca_id) WHERE ca_id <> '' AND status = 'PENDING_ACTIVATION';

-- +goose Down
DROP INDEX certificates_waiting;
DROP TABLE first_connections;
DROP TABLE registration_codes;
DROP TABLE ca_certificates;
