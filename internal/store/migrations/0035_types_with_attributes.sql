-- +goose Up
-- Things are found by an attribute and a type with one search: the type stands in the key of the rows that they are found by. '?' is the type
-- in rows of a version before this one, until upkeep has found out.
CREATE TABLE new_thing_attributes (
  account    TEXT NOT NULL,
  region     TEXT NOT NULL,
  name       TEXT NOT NULL,
  value      TEXT NOT NULL,
  thing_type TEXT NOT NULL DEFAULT '?',
  thing      TEXT NOT NULL,
  PRIMARY KEY (account, region, name, value, thing_type, thing)
)
-- sqlite: WITHOUT ROWID
;
INSERT INTO new_thing_attributes (account, region, name, value, thing_type, thing)
    SELECT a.account, a.region, a.name, a.value, t.thing_type, a.thing
    FROM thing_attributes a JOIN things t ON t.account = a.account AND t.region = a.region AND t.name = a.thing
    ORDER BY a.account, a.region, a.name, a.value, t.thing_type, a.thing;
DROP TABLE thing_attributes;
ALTER TABLE new_thing_attributes RENAME TO thing_attributes;
CREATE INDEX thing_attributes_unfiled ON thing_attributes (account, region, thing, name) WHERE thing_type = '?';

-- In the order of the list.
DROP INDEX ca_certificates_by_template;
CREATE INDEX ca_certificates_by_template ON ca_certificates (account, region, template, created, id) WHERE template <> '';

-- +goose Down
SELECT 1;
