-- +goose Up
-- Certificates that go when another one has taken their place: each is there until its successor has connected, and for some time
-- after that.
CREATE TABLE successions (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  certificate TEXT NOT NULL, -- id of the one that goes
  successor   TEXT NOT NULL, -- id of the one that has taken its place
  thing       TEXT NOT NULL,
  overlap     BIGINT NOT NULL, -- milliseconds between the successor's first connection and the end
  due         BIGINT NOT NULL, -- when the certificate goes; 0: its successor has not connected yet
  created     BIGINT NOT NULL,
  PRIMARY KEY (account, region, certificate, successor)
);
CREATE INDEX successions_by_successor ON successions (account, region, successor);
CREATE INDEX successions_by_due ON successions (due) WHERE due > 0;

-- When certificates have connected. Beside their rows, which are long: this is written for each connection.
CREATE TABLE certificate_use (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  certificate TEXT NOT NULL,
  first_seen  BIGINT NOT NULL,
  last_seen   BIGINT NOT NULL,
  PRIMARY KEY (account, region, certificate)
);

-- Those that end before the year 2049, which is when certificates of AWS, and ours unless somebody says otherwise, end.
CREATE INDEX certificates_by_end ON certificates (account, region, not_after, id) WHERE not_after < 2493072000000;

-- +goose Down
DROP INDEX certificates_by_end;
DROP TABLE certificate_use;
DROP TABLE successions;
