-- +goose Up
-- What MQTT clients left behind them: sessions that outlive their connection, their filters, and the QoS 1 messages that wait for
-- a PUBACK.
CREATE TABLE mqtt_sessions (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  client  TEXT NOT NULL,
  version BIGINT NOT NULL, -- of the protocol: 4 or 5
  expiry  BIGINT NOT NULL, -- milliseconds without a connection
  ends    BIGINT NOT NULL, -- 0: connected
  PRIMARY KEY (account, region, client)
);

CREATE TABLE mqtt_subscriptions (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  client  TEXT NOT NULL,
  filter  TEXT NOT NULL,
  qos     BIGINT NOT NULL,
  options BIGINT NOT NULL, -- 1 no local, 2 retain as published
  PRIMARY KEY (account, region, client, filter)
);

CREATE TABLE mqtt_messages (
  account    TEXT NOT NULL,
  region     TEXT NOT NULL,
  owner      TEXT NOT NULL, -- client id, or '$share/name/filter': it waits for any member of the group
  number     BIGINT NOT NULL,
  qos        BIGINT NOT NULL,
  retain     BIGINT NOT NULL,
  topic      TEXT NOT NULL,
  payload    BYTEA NOT NULL,
  properties TEXT NOT NULL, -- JSON
  expires    BIGINT NOT NULL, -- 0: never
  PRIMARY KEY (account, region, owner, number)
);

CREATE TABLE mqtt_retained (
  account    TEXT NOT NULL,
  region     TEXT NOT NULL,
  topic      TEXT NOT NULL,
  qos        BIGINT NOT NULL,
  payload    BYTEA NOT NULL,
  properties TEXT NOT NULL, -- JSON
  expires    BIGINT NOT NULL, -- 0: never
  modified   BIGINT NOT NULL,
  PRIMARY KEY (account, region, topic)
);

-- +goose Down
DROP TABLE mqtt_retained;
DROP TABLE mqtt_messages;
DROP TABLE mqtt_subscriptions;
DROP TABLE mqtt_sessions;
