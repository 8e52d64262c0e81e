-- +goose Up
-- What this server knows of the functions that it runs itself, those of kind local.
CREATE TABLE lambda_functions (
  account      TEXT NOT NULL,
  region       TEXT NOT NULL,
  name         TEXT NOT NULL,
  runtime      TEXT NOT NULL,
  handler      TEXT NOT NULL,
  role         TEXT NOT NULL, -- kept and shown; functions get no credentials
  description  TEXT NOT NULL,
  architecture TEXT NOT NULL,
  timeout      BIGINT NOT NULL, -- seconds
  memory       BIGINT NOT NULL, -- MiB
  storage      BIGINT NOT NULL, -- MiB of /tmp
  code         TEXT NOT NULL, -- digest of a row of lambda_code
  code_size    BIGINT NOT NULL, -- bytes
  environment  BYTEA NOT NULL, -- sealed: JSON of names and values; empty without variables
  permissions  TEXT NOT NULL, -- JSON: the statements of its policy
  revision     TEXT NOT NULL,
  modified     BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);
CREATE INDEX lambda_functions_by_code ON lambda_functions (account, region, code);

-- Zip files by the SHA-256 of their bytes, in parts, so that no transaction is large.
CREATE TABLE lambda_code (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  digest  TEXT NOT NULL, -- hexadecimal
  size    BIGINT NOT NULL, -- bytes
  used    BIGINT NOT NULL, -- when it was last uploaded: one that no function has goes an hour later
  PRIMARY KEY (account, region, digest)
);

CREATE TABLE lambda_code_parts (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  digest  TEXT NOT NULL,
  part    BIGINT NOT NULL, -- from 0
  content BYTEA NOT NULL,
  PRIMARY KEY (account, region, digest, part)
);

-- +goose Down
DROP TABLE lambda_code_parts;
DROP TABLE lambda_code;
DROP TABLE lambda_functions;
