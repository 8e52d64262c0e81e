-- +goose Up
-- What a registration did beside tying its certificate to its thing, as JSON, so that it can be undone; and when its claim was contained.
ALTER TABLE registrations ADD COLUMN trail TEXT NOT NULL DEFAULT '';
ALTER TABLE registrations ADD COLUMN contained BIGINT NOT NULL DEFAULT 0;

-- Claims whose descendants lose their power: the one that was named (the root), and certificates that descend from it and
-- have descendants themselves. What is left to do is here, so that it goes on after a power cut.
CREATE TABLE containments (
  account      TEXT NOT NULL,
  region       TEXT NOT NULL,
  claim        TEXT NOT NULL, -- claim or certificate id
  root         TEXT NOT NULL, -- the claim that was named
  since        BIGINT NOT NULL, -- what was made before stays
  phase        BIGINT NOT NULL, -- 0: certificates lose their power; 1: names become free; 2: done
  after        TEXT NOT NULL, -- where the phase has come to
  actor        TEXT NOT NULL, -- ARN of who asked
  started      BIGINT NOT NULL,
  finished     BIGINT NOT NULL, -- 0: not yet
  certificates BIGINT NOT NULL, -- that lost their power
  things       BIGINT NOT NULL, -- that were removed
  released     BIGINT NOT NULL, -- that lost a principal and stay
  PRIMARY KEY (account, region, claim)
);
CREATE INDEX containments_open ON containments (phase, account, region, claim) WHERE phase < 2;
CREATE INDEX containments_by_root ON containments (account, region, root);

-- +goose Down
DROP TABLE containments;
ALTER TABLE registrations DROP COLUMN contained;
ALTER TABLE registrations DROP COLUMN trail;
