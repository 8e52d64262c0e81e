-- +goose Up
-- On SQLite the rows of these tables move into their primary keys: beside them they were found by a second search, and each change wrote
-- two pages. Not those of tables whose rows are long. PostgreSQL has nothing of the kind.

-- sqlite: CREATE TABLE new_thing_attributes (
-- sqlite:   account TEXT NOT NULL,
-- sqlite:   region  TEXT NOT NULL,
-- sqlite:   name    TEXT NOT NULL,
-- sqlite:   value   TEXT NOT NULL,
-- sqlite:   thing   TEXT NOT NULL,
-- sqlite:   PRIMARY KEY (account, region, name, value, thing)
-- sqlite: ) WITHOUT ROWID;
-- sqlite: INSERT INTO new_thing_attributes SELECT account, region, name, value, thing FROM thing_attributes ORDER BY account, region, name, value, thing;
-- sqlite: DROP TABLE thing_attributes;
-- sqlite: ALTER TABLE new_thing_attributes RENAME TO thing_attributes;

-- sqlite: CREATE TABLE new_thing_group_members (
-- sqlite:   account TEXT NOT NULL,
-- sqlite:   region  TEXT NOT NULL,
-- sqlite:   thing   TEXT NOT NULL,
-- sqlite:   grp     TEXT NOT NULL,
-- sqlite:   PRIMARY KEY (account, region, thing, grp)
-- sqlite: ) WITHOUT ROWID;
-- sqlite: INSERT INTO new_thing_group_members SELECT account, region, thing, grp FROM thing_group_members ORDER BY account, region, thing, grp;
-- sqlite: DROP TABLE thing_group_members;
-- sqlite: ALTER TABLE new_thing_group_members RENAME TO thing_group_members;
-- sqlite: CREATE INDEX thing_group_members_by_group ON thing_group_members (account, region, grp, thing);

-- sqlite: CREATE TABLE new_thing_principals (
-- sqlite:   account   TEXT NOT NULL,
-- sqlite:   region    TEXT NOT NULL,
-- sqlite:   thing     TEXT NOT NULL,
-- sqlite:   principal TEXT NOT NULL,
-- sqlite:   type      TEXT NOT NULL,
-- sqlite:   PRIMARY KEY (account, region, thing, principal)
-- sqlite: ) WITHOUT ROWID;
-- sqlite: INSERT INTO new_thing_principals SELECT account, region, thing, principal, type FROM thing_principals ORDER BY account, region, thing, principal;
-- sqlite: DROP TABLE thing_principals;
-- sqlite: ALTER TABLE new_thing_principals RENAME TO thing_principals;
-- sqlite: CREATE INDEX thing_principals_by_principal ON thing_principals (account, region, principal, thing);

-- sqlite: CREATE TABLE new_policy_attachments (
-- sqlite:   account TEXT NOT NULL,
-- sqlite:   region  TEXT NOT NULL,
-- sqlite:   target  TEXT NOT NULL,
-- sqlite:   policy  TEXT NOT NULL,
-- sqlite:   PRIMARY KEY (account, region, target, policy)
-- sqlite: ) WITHOUT ROWID;
-- sqlite: INSERT INTO new_policy_attachments SELECT account, region, target, policy FROM policy_attachments ORDER BY account, region, target, policy;
-- sqlite: DROP TABLE policy_attachments;
-- sqlite: ALTER TABLE new_policy_attachments RENAME TO policy_attachments;
-- sqlite: CREATE INDEX policy_attachments_by_policy ON policy_attachments (account, region, policy, target);

-- sqlite: CREATE TABLE new_trace_subjects (
-- sqlite:   hour    BIGINT NOT NULL,
-- sqlite:   subject BIGINT NOT NULL,
-- sqlite:   id      TEXT NOT NULL,
-- sqlite:   PRIMARY KEY (hour, subject, id)
-- sqlite: ) WITHOUT ROWID;
-- sqlite: INSERT INTO new_trace_subjects SELECT hour, subject, id FROM trace_subjects ORDER BY hour, subject, id;
-- sqlite: DROP TABLE trace_subjects;
-- sqlite: ALTER TABLE new_trace_subjects RENAME TO trace_subjects;

-- sqlite: CREATE TABLE new_certificate_use (
-- sqlite:   account     TEXT NOT NULL,
-- sqlite:   region      TEXT NOT NULL,
-- sqlite:   certificate TEXT NOT NULL,
-- sqlite:   first_seen  BIGINT NOT NULL,
-- sqlite:   last_seen   BIGINT NOT NULL,
-- sqlite:   PRIMARY KEY (account, region, certificate)
-- sqlite: ) WITHOUT ROWID;
-- sqlite: INSERT INTO new_certificate_use SELECT account, region, certificate, first_seen, last_seen FROM certificate_use ORDER BY account, region, certificate;
-- sqlite: DROP TABLE certificate_use;
-- sqlite: ALTER TABLE new_certificate_use RENAME TO certificate_use;
SELECT 1;

-- +goose Down
SELECT 1;
