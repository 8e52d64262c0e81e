-- +goose Up
-- URLs that rules may send to, once whoever stands behind them has confirmed it.
CREATE TABLE rule_destinations (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  id       TEXT NOT NULL,
  url      TEXT NOT NULL,
  status   TEXT NOT NULL, -- IN_PROGRESS, ENABLED, DISABLED, ERROR
  reason   TEXT NOT NULL, -- of an ERROR
  token    TEXT NOT NULL, -- hexadecimal SHA-256 of the one that confirms; empty: none does
  created  BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region, id)
);
CREATE INDEX rule_destinations_by_token ON rule_destinations (token) WHERE token <> '';

-- +goose Down
DROP TABLE rule_destinations;
