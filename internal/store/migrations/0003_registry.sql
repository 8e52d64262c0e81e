-- +goose Up

-- attributes is a JSON object; thing_attributes repeats it for searches only.
CREATE TABLE things (
  account       TEXT NOT NULL,
  region        TEXT NOT NULL,
  name          TEXT NOT NULL,
  id            TEXT NOT NULL,
  thing_type    TEXT NOT NULL,
  attributes    TEXT NOT NULL,
  billing_group TEXT NOT NULL,
  version       BIGINT NOT NULL,
  created       BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);
CREATE INDEX things_by_type ON things (account, region, thing_type, name) WHERE thing_type <> '';
CREATE INDEX things_by_billing_group ON things (account, region, billing_group, name) WHERE billing_group <> '';

CREATE TABLE thing_attributes (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  name    TEXT NOT NULL,
  value   TEXT NOT NULL,
  thing   TEXT NOT NULL,
  PRIMARY KEY (account, region, name, value, thing)
);

CREATE TABLE thing_types (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  name        TEXT NOT NULL,
  id          TEXT NOT NULL,
  description TEXT NOT NULL,
  searchable  TEXT NOT NULL, -- JSON list of attribute names
  propagating TEXT NOT NULL, -- JSON list
  deprecated  BIGINT NOT NULL, -- 0: not deprecated
  created     BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);

-- path is the names of the ancestors, root first, each followed by a slash; '' for a root. It never changes, because a
-- group neither moves nor goes while it has children.
CREATE TABLE thing_groups (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  name        TEXT NOT NULL,
  id          TEXT NOT NULL,
  parent      TEXT NOT NULL,
  path        TEXT NOT NULL,
  description TEXT NOT NULL,
  attributes  TEXT NOT NULL, -- JSON object
  version     BIGINT NOT NULL,
  created     BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);
CREATE INDEX thing_groups_by_parent ON thing_groups (account, region, parent, name);
CREATE INDEX thing_groups_by_path ON thing_groups (account, region, path, name);

CREATE TABLE thing_group_members (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  thing   TEXT NOT NULL,
  grp     TEXT NOT NULL,
  PRIMARY KEY (account, region, thing, grp)
);
CREATE INDEX thing_group_members_by_group ON thing_group_members (account, region, grp, thing);

CREATE TABLE billing_groups (
  account     TEXT NOT NULL,
  region      TEXT NOT NULL,
  name        TEXT NOT NULL,
  id          TEXT NOT NULL,
  description TEXT NOT NULL,
  version     BIGINT NOT NULL,
  created     BIGINT NOT NULL,
  PRIMARY KEY (account, region, name)
);

CREATE TABLE certificates (
  account          TEXT NOT NULL,
  region           TEXT NOT NULL,
  id               TEXT NOT NULL,
  pem              TEXT NOT NULL,
  status           TEXT NOT NULL,
  mode             TEXT NOT NULL,
  ca_id            TEXT NOT NULL, -- '' when we signed it
  not_before       BIGINT NOT NULL,
  not_after        BIGINT NOT NULL,
  created          BIGINT NOT NULL,
  modified         BIGINT NOT NULL,
  version          BIGINT NOT NULL,
  generation       TEXT NOT NULL,
  origin_claim     TEXT NOT NULL,
  origin_requester TEXT NOT NULL,
  origin_template  TEXT NOT NULL,
  origin_csr       TEXT NOT NULL, -- hex SHA-256 of the CSR, '' for a key that we made
  expires          BIGINT NOT NULL, -- a pending certificate is deleted after this; 0: never
  PRIMARY KEY (account, region, id)
);
-- The gateway knows a fingerprint before it knows a scope.
CREATE INDEX certificates_by_id ON certificates (id);
CREATE INDEX certificates_by_time ON certificates (account, region, created, id);
CREATE INDEX certificates_by_ca ON certificates (account, region, ca_id, created, id) WHERE ca_id <> '';
CREATE INDEX certificates_by_claim ON certificates (account, region, origin_claim, origin_csr) WHERE origin_claim <> '';
CREATE INDEX certificates_by_expiry ON certificates (expires) WHERE expires > 0;

-- A principal or target is stored as the resource part of its ARN ("cert/…", "thinggroup/…") or as a Cognito identity id.
CREATE TABLE thing_principals (
  account   TEXT NOT NULL,
  region    TEXT NOT NULL,
  thing     TEXT NOT NULL,
  principal TEXT NOT NULL,
  type      TEXT NOT NULL,
  PRIMARY KEY (account, region, thing, principal)
);
CREATE INDEX thing_principals_by_principal ON thing_principals (account, region, principal, thing);

CREATE TABLE policies (
  account         TEXT NOT NULL,
  region          TEXT NOT NULL,
  name            TEXT NOT NULL,
  default_version BIGINT NOT NULL,
  last_version    BIGINT NOT NULL, -- ids are never used again
  created         BIGINT NOT NULL,
  modified        BIGINT NOT NULL,
  generation      TEXT NOT NULL,
  PRIMARY KEY (account, region, name)
);

CREATE INDEX policies_by_time ON policies (account, region, created, name);

CREATE TABLE policy_versions (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  policy   TEXT NOT NULL,
  id       BIGINT NOT NULL,
  document TEXT NOT NULL,
  created  BIGINT NOT NULL,
  PRIMARY KEY (account, region, policy, id)
);

CREATE TABLE policy_attachments (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  target  TEXT NOT NULL,
  policy  TEXT NOT NULL,
  PRIMARY KEY (account, region, target, policy)
);
CREATE INDEX policy_attachments_by_policy ON policy_attachments (account, region, policy, target);

-- resource is the resource part of an ARN, for example "policy/lamps".
CREATE TABLE tags (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  resource TEXT NOT NULL,
  key      TEXT NOT NULL,
  value    TEXT NOT NULL,
  PRIMARY KEY (account, region, resource, key)
);

CREATE TABLE endpoints (
  account TEXT NOT NULL,
  region  TEXT NOT NULL,
  prefix  TEXT NOT NULL UNIQUE,
  PRIMARY KEY (account, region)
);

CREATE TABLE event_configurations (
  account  TEXT NOT NULL,
  region   TEXT NOT NULL,
  enabled  TEXT NOT NULL, -- JSON list of event types
  created  BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (account, region)
);

-- +goose Down
DROP TABLE event_configurations;
DROP TABLE endpoints;
DROP TABLE tags;
DROP TABLE policy_attachments;
DROP TABLE policy_versions;
DROP TABLE policies;
DROP TABLE thing_principals;
DROP TABLE certificates;
DROP TABLE billing_groups;
DROP TABLE thing_group_members;
DROP TABLE thing_groups;
DROP TABLE thing_types;
DROP TABLE thing_attributes;
DROP TABLE things;
