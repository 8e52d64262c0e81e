-- +goose Up
-- Users, roles, groups, managed policies and OIDC providers of an account. They belong to no region: region is aws-global.
CREATE TABLE iam_entities (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  kind    TEXT NOT NULL,   -- user | role | group | policy | oidc
  name    TEXT NOT NULL,
  folded  TEXT NOT NULL,   -- lower case: names are unique without regard to case
  id      TEXT NOT NULL,   -- AIDA…, AROA…, AGPA…, ANPA…
  path    TEXT NOT NULL,
  body    TEXT NOT NULL,   -- JSON of what the kind has beside, written and read by the rules
  created BIGINT NOT NULL,
  PRIMARY KEY (account, region, kind, name)
);
CREATE UNIQUE INDEX iam_entities_folded ON iam_entities (account, region, kind, folded);

CREATE TABLE iam_inline (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  kind     TEXT NOT NULL,
  entity   TEXT NOT NULL,
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (account, region, kind, entity, name)
);

CREATE TABLE iam_attachments (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  kind    TEXT NOT NULL,
  entity  TEXT NOT NULL,
  policy  TEXT NOT NULL,   -- ARN
  PRIMARY KEY (account, region, kind, entity, policy)
);
CREATE INDEX iam_attachments_by_policy ON iam_attachments (account, region, policy, kind, entity);

CREATE TABLE iam_policy_versions (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  policy   TEXT NOT NULL,  -- name
  version  BIGINT NOT NULL,
  document TEXT NOT NULL,
  created  BIGINT NOT NULL,
  PRIMARY KEY (account, region, policy, version)
);

CREATE TABLE iam_members (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  grp     TEXT NOT NULL,
  usr     TEXT NOT NULL,
  PRIMARY KEY (account, region, grp, usr)
);
CREATE INDEX iam_members_by_user ON iam_members (account, region, usr, grp);

CREATE TABLE iam_keys (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  id      TEXT NOT NULL,   -- AKIA…
  usr     TEXT NOT NULL,
  secret  BYTEA NOT NULL,  -- sealed
  active  BIGINT NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (account, region, id)
);
-- A signature names a key and no account.
CREATE UNIQUE INDEX iam_keys_by_id ON iam_keys (id);
CREATE INDEX iam_keys_by_user ON iam_keys (account, region, usr);

-- +goose Down
DROP TABLE iam_keys;
DROP TABLE iam_members;
DROP TABLE iam_policy_versions;
DROP TABLE iam_attachments;
DROP TABLE iam_inline;
DROP TABLE iam_entities;
