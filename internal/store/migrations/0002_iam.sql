-- +goose Up

-- IAM belongs to no region: region is 'aws-global' in all of these tables. What hangs on an entity refers to it by its id,
-- which is never used again, so that renaming is one row and a namesake inherits nothing.
CREATE TABLE iam_entities (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  kind        TEXT NOT NULL, -- user, group, role
  name        TEXT NOT NULL,
  id          TEXT NOT NULL,
  path        TEXT NOT NULL,
  description TEXT NOT NULL,
  trust       TEXT NOT NULL, -- roles: the trust policy
  max_session BIGINT NOT NULL, -- seconds
  boundary    TEXT NOT NULL, -- ARN; '' for none
  created     BIGINT NOT NULL,
  PRIMARY KEY (account, region, kind, name)
);
CREATE UNIQUE INDEX iam_entities_by_id ON iam_entities (account, region, id);
CREATE UNIQUE INDEX iam_entities_whatever_case ON iam_entities (account, region, kind, lower(name));
CREATE INDEX iam_entities_by_boundary ON iam_entities (account, region, boundary) WHERE boundary <> '';

CREATE TABLE iam_members (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  usr     TEXT NOT NULL, -- id
  grp     TEXT NOT NULL, -- id
  PRIMARY KEY (account, region, usr, grp)
);
CREATE INDEX iam_members_by_group ON iam_members (account, region, grp, usr);

CREATE TABLE iam_inline_policies (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  entity   TEXT NOT NULL, -- id
  name     TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (account, region, entity, name)
);

CREATE TABLE iam_attachments (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  entity  TEXT NOT NULL, -- id
  policy  TEXT NOT NULL, -- ARN
  PRIMARY KEY (account, region, entity, policy)
);
CREATE INDEX iam_attachments_by_policy ON iam_attachments (account, region, policy, entity);

CREATE TABLE iam_policies (
  account         TEXT NOT NULL,
  region          TEXT NOT NULL,
  name            TEXT NOT NULL,
  id              TEXT NOT NULL,
  path            TEXT NOT NULL,
  description     TEXT NOT NULL,
  default_version BIGINT NOT NULL,
  last_version    BIGINT NOT NULL, -- ids are never used again
  created         BIGINT NOT NULL,
  modified        BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);
CREATE UNIQUE INDEX iam_policies_whatever_case ON iam_policies (account, region, lower(name));

CREATE TABLE iam_policy_versions (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  policy   TEXT NOT NULL, -- name
  id       BIGINT NOT NULL,
  document TEXT NOT NULL,
  created  BIGINT NOT NULL,
  PRIMARY KEY (account, region, policy, id)
);

CREATE TABLE iam_access_keys (
  account      TEXT NOT NULL,
  region       TEXT NOT NULL,
  id           TEXT NOT NULL,
  usr          TEXT NOT NULL, -- id
  sealed       BYTEA NOT NULL, -- the secret, under the master key
  active       BIGINT NOT NULL,
  created      BIGINT NOT NULL,
  last_used    BIGINT NOT NULL, -- 0: never
  last_service TEXT NOT NULL,
  last_region  TEXT NOT NULL,
  PRIMARY KEY (account, region, id)
);
-- A signature names a key before it names an account.
CREATE UNIQUE INDEX iam_access_keys_by_id ON iam_access_keys (id);
CREATE INDEX iam_access_keys_by_user ON iam_access_keys (account, region, usr, id);

CREATE TABLE iam_oidc_providers (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  url         TEXT NOT NULL, -- without scheme
  client_ids  TEXT NOT NULL, -- JSON list
  thumbprints TEXT NOT NULL, -- JSON list
  created     BIGINT NOT NULL,
  PRIMARY KEY (account, region, url)
);

-- owner is the id of an entity or managed policy, or the URL of a provider.
CREATE TABLE iam_tags (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  owner   TEXT NOT NULL,
  key     TEXT NOT NULL,
  value   TEXT NOT NULL,
  PRIMARY KEY (account, region, owner, key)
);

-- +goose Down
DROP TABLE iam_tags;
DROP TABLE iam_oidc_providers;
DROP TABLE iam_access_keys;
DROP TABLE iam_policy_versions;
DROP TABLE iam_policies;
DROP TABLE iam_attachments;
DROP TABLE iam_inline_policies;
DROP TABLE iam_members;
DROP TABLE iam_entities;
