-- +goose Up

-- Names under which devices ask for credentials of a role.
CREATE TABLE role_aliases (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  name     TEXT NOT NULL,
  role     TEXT NOT NULL, -- ARN
  duration BIGINT NOT NULL, -- of the credentials, in seconds
  created  BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);

-- What each of the two accounts knows of the transfer of a certificate. The row of whoever gave one away outlives the certificate there.
CREATE TABLE certificate_transfers (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  certificate TEXT NOT NULL,
  peer        TEXT NOT NULL, -- the other account
  outgoing    BIGINT NOT NULL, -- 1: it is this account that gives the certificate away
  state       TEXT NOT NULL, -- pending, accepted, rejected, cancelled
  message     TEXT NOT NULL,
  reason      TEXT NOT NULL, -- of a rejection
  requested   BIGINT NOT NULL,
  ended       BIGINT NOT NULL, -- 0 while it is pending
  PRIMARY KEY (account, region, certificate)
);
CREATE INDEX certificate_transfers_outgoing ON certificate_transfers (account, region, requested, certificate) WHERE outgoing = 1 AND state = 'pending';

-- +goose Down
DROP TABLE certificate_transfers;
DROP TABLE role_aliases;
