-- +goose Up
-- Rules that select messages. A rule without FROM, which runs by Basic Ingest alone, has no filter.
CREATE TABLE topic_rules (
  account      TEXT NOT NULL,
  region       TEXT NOT NULL,
  name         TEXT NOT NULL,
  sql          TEXT NOT NULL,
  sql_version  TEXT NOT NULL,
  filter       TEXT NOT NULL, -- of its FROM
  description  TEXT NOT NULL,
  disabled     BIGINT NOT NULL,
  actions      TEXT NOT NULL, -- JSON
  error_action TEXT NOT NULL, -- JSON
  created      BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);

-- +goose Down
DROP TABLE topic_rules;
