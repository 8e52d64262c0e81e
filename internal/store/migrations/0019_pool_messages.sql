-- +goose Up
-- Messages that user pools owe to people: stored with the code that they carry, gone when they are sent.
CREATE TABLE pool_messages (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  pool     TEXT NOT NULL,
  id       TEXT NOT NULL,
  sub      TEXT NOT NULL,
  content  BYTEA NOT NULL,  -- sealed
  due      BIGINT NOT NULL, -- when it is tried next
  attempts BIGINT NOT NULL, -- that failed
  expires  BIGINT NOT NULL, -- when what it carries is of no use any more
  PRIMARY KEY (account, region, pool, id)
);
CREATE INDEX pool_messages_by_due ON pool_messages (due);
CREATE INDEX pool_messages_by_user ON pool_messages (account, region, pool, sub);
CREATE INDEX pool_messages_by_expiry ON pool_messages (expires);

-- +goose Down
DROP TABLE pool_messages;
