-- +goose Up

-- Host names of accounts' own at which devices connect.
CREATE TABLE domain_configurations (
  account         TEXT NOT NULL,
  region          TEXT NOT NULL,
  name            TEXT NOT NULL,
  domain          TEXT NOT NULL, -- host name
  managed         BIGINT NOT NULL, -- 1: one of our endpoint names
  enabled         BIGINT NOT NULL,
  security_policy TEXT NOT NULL, -- versions of TLS, by the name that AWS has for them
  authentication  TEXT NOT NULL,
  protocol        TEXT NOT NULL,
  changed         BIGINT NOT NULL, -- when the status did
  PRIMARY KEY (account, region, name)
);
CREATE UNIQUE INDEX domain_configurations_by_domain ON domain_configurations (domain);

-- +goose Down
DROP TABLE domain_configurations;
