-- +goose Up
-- Events that belong to a change of the registry and are published after its commit, until they are.
CREATE TABLE events (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  id      TEXT NOT NULL, -- sorts by time
  topic   TEXT NOT NULL,
  payload TEXT NOT NULL, -- JSON
  PRIMARY KEY (account, region, id)
);

-- +goose Down
DROP TABLE events;
