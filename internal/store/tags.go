package store

import (
	"github.com/imprint-iot/imprint/internal/fleet"
)

// Tags returns the tags of a resource, named by the resource part of its ARN ("policy/lamps"), by key.
func (tx *Tx) Tags(s fleet.Scope, resource string) ([]fleet.Tag, error) {
	return all(tx, func(row scanner) (t fleet.Tag, err error) {
		err = row.Scan(&t.Key, &t.Value)
		return t, err
	}, `SELECT key, value FROM tags WHERE account = ? AND region = ? AND resource = ? ORDER BY key`, s.Account, s.Region, resource)
}

// PutTags sets tags of a resource; the others stay.
func (tx *Tx) PutTags(s fleet.Scope, resource string, tags []fleet.Tag) error {
	for _, t := range tags {
		if _, err := tx.exec(`INSERT INTO tags (account, region, resource, key, value) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (account, region, resource, key) DO UPDATE SET value = excluded.value`,
			s.Account, s.Region, resource, t.Key, t.Value); err != nil {
			return err
		}
	}
	if len(tags) > 0 {
		tx.Changed(s, ChangedTags, s.ARN("iot", resource))
	}
	return nil
}

// RemoveTags removes tags of a resource by key; unknown keys are no error.
func (tx *Tx) RemoveTags(s fleet.Scope, resource string, keys []string) error {
	for _, k := range keys {
		if _, err := tx.exec(`DELETE FROM tags WHERE account = ? AND region = ? AND resource = ? AND key = ?`,
			s.Account, s.Region, resource, k); err != nil {
			return err
		}
	}
	tx.Changed(s, ChangedTags, s.ARN("iot", resource))
	return nil
}

// deleteTags forgets all tags of a resource that is deleted.
func (tx *Tx) deleteTags(s fleet.Scope, resource string) error {
	_, err := tx.exec(`DELETE FROM tags WHERE account = ? AND region = ? AND resource = ?`, s.Account, s.Region, resource)
	return err
}
