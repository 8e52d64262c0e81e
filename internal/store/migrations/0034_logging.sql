-- +goose Up
-- What an account wants to have logged of its devices and rules; without a row it was never asked.
CREATE TABLE logging_options (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  options TEXT NOT NULL, -- JSON
  PRIMARY KEY (account, region)
);

-- +goose Down
DROP TABLE logging_options;
