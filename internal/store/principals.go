package store

import (
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// AttachThing ties a principal (certificate ARN or Cognito identity id) to a thing, or changes the type of the tie.
func (tx *Tx) AttachThing(s fleet.Scope, a fleet.Attachment) error {
	_, err := tx.exec(`INSERT INTO thing_principals (account, region, thing, principal, type) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, region, thing, principal) DO UPDATE SET type = excluded.type`,
		s.Account, s.Region, a.Thing, principalKey(s, a.Principal), string(a.Type))
	tx.tiesChanged(s, a.Principal, func(all *Ties) {
		all.Things = append(slices.DeleteFunc(slices.Clone(all.Things), func(b fleet.Attachment) bool { return b.Thing == a.Thing }), a)
	})
	return err
}

// Ties are all that a principal is tied to, in the order of names.
type Ties struct {
	Policies []string
	Things   []fleet.Attachment
	more     bool // than are here
}

// maxAttached bounds what one look brings: few have more.
const maxAttached = 100

// TiesOf returns what a principal is tied to, with one look. ok is false if it is tied to too much.
func (tx *Tx) TiesOf(s fleet.Scope, principal string) (a Ties, ok bool, err error) {
	key := principalKey(s, principal)
	if id, ok := strings.CutPrefix(key, "cert/"); ok && tx.pending(s, id) != nil {
		tx.saw(Change{s, ChangedAttachment, principal}, a, true)
		return a, true, nil
	}
	a, _, err = again(tx, Change{s, ChangedAttachment, principal}, func() (a Ties, found bool, err error) {
		n := 0
		_, err = all(tx, func(row scanner) (_ struct{}, err error) {
			var isThing int
			var name, kind string
			err = row.Scan(&isThing, &name, &kind)
			if isThing == 1 {
				a.Things = append(a.Things, fleet.Attachment{Thing: name, Principal: principal, Type: fleet.PrincipalType(kind)})
			} else {
				a.Policies = append(a.Policies, name)
			}
			n++
			return struct{}{}, err
		}, `SELECT 0 AS is_thing, policy, '' FROM policy_attachments WHERE account = ? AND region = ? AND target = ?
			UNION ALL SELECT 1, thing, type FROM thing_principals WHERE account = ? AND region = ? AND principal = ? LIMIT ?`,
			s.Account, s.Region, key, s.Account, s.Region, key, maxAttached+1)
		slices.Sort(a.Policies)
		slices.SortFunc(a.Things, func(a, b fleet.Attachment) int { return strings.Compare(a.Thing, b.Thing) })
		a.more = n > maxAttached
		return a, true, err
	})
	return a, !a.more, err
}

// tiesSeen is what TiesOf has found in this transaction, if it has looked.
func (tx *Tx) tiesSeen(s fleet.Scope, principal string) (a Ties, ok bool) {
	l, ok := tx.looks[Change{s, ChangedAttachment, principal}]
	if !ok {
		return a, false
	}
	a = l.row.(Ties)
	return a, !a.more
}

// tiesChanged tells of a change, and does the same to what TiesOf has found.
func (tx *Tx) tiesChanged(s fleet.Scope, principal string, change func(*Ties)) {
	a, known := tx.tiesSeen(s, principal)
	tx.Changed(s, ChangedAttachment, principal)
	if known {
		change(&a)
		tx.saw(Change{s, ChangedAttachment, principal}, a, true)
	}
}

// DetachThing unties a principal from a thing. detached is false if they were not tied.
func (tx *Tx) DetachThing(s fleet.Scope, thing, principal string) (detached bool, err error) {
	detached, err = changedRows(tx.exec(`DELETE FROM thing_principals WHERE account = ? AND region = ? AND thing = ? AND principal = ?`,
		s.Account, s.Region, thing, principalKey(s, principal)))
	if detached {
		tx.Changed(s, ChangedAttachment, principal)
	}
	return detached, err
}

func attachmentScanner(s fleet.Scope) func(scanner) (fleet.Attachment, error) {
	return func(row scanner) (a fleet.Attachment, err error) {
		var principal, kind string
		err = row.Scan(&a.Thing, &principal, &kind)
		a.Principal, a.Type = principalName(s, principal), fleet.PrincipalType(kind)
		return a, err
	}
}

// PrincipalsOf lists the principals of a thing, of one type only if it is not "", in the order of their stored keys.
func (tx *Tx) PrincipalsOf(s fleet.Scope, thing string, only fleet.PrincipalType, p fleet.Page) ([]fleet.Attachment, string, error) {
	list, err := all(tx, attachmentScanner(s), `SELECT thing, principal, type FROM thing_principals
		WHERE account = ? AND region = ? AND thing = ? AND principal > ? AND (type = ? OR ? = '') ORDER BY principal LIMIT ?`,
		s.Account, s.Region, thing, p.After, string(only), string(only), pageLimit(p))
	list, next := cutPage(p, list, func(a fleet.Attachment) string { return principalKey(s, a.Principal) })
	return list, next, err
}

// ThingsOf lists the things of a principal, with attachments of one type only if it is not "", by name. A principal with an exclusive thing
// has no other: of those that many things share, one look tells that there is none.
func (tx *Tx) ThingsOf(s fleet.Scope, principal string, only fleet.PrincipalType, p fleet.Page) ([]fleet.Attachment, string, error) {
	list, err := all(tx, attachmentScanner(s), `SELECT thing, principal, type FROM thing_principals
		WHERE account = ? AND region = ? AND principal = ? AND thing > ? ORDER BY thing LIMIT ?`, s.Account, s.Region, principalKey(s, principal), p.After, pageLimit(p))
	if only != "" && len(list) > 0 && list[0].Type != only {
		return nil, "", err
	}
	list, next := cutPage(p, list, func(a fleet.Attachment) string { return a.Thing })
	return list, next, err
}

// An AttachedThing is a thing with the way in which a principal is tied to it.
type AttachedThing struct {
	fleet.Thing
	PrincipalType fleet.PrincipalType
}

// AssociatedThing returns the thing that a connection of principal with this client id stands for (iot-core spec 5.6): the
// exclusive one, else the attached one of that name. found is false if there is none. A principal with an exclusive thing has no
// other, so one look at any of its things tells.
func (tx *Tx) AssociatedThing(s fleet.Scope, principal, clientID string) (thing AttachedThing, found bool, err error) {
	if t, known := tx.device(s, principal).connects(clientID); known {
		return t, true, nil
	}
	key := principalKey(s, principal)
	return one(tx, func(row scanner) (AttachedThing, error) {
		var kind string
		t, err := scanThing(appendScan{row, []any{&kind}})
		return AttachedThing{t, fleet.PrincipalType(kind)}, err
	}, `SELECT `+thingColumns+`, p.type FROM thing_principals p JOIN things t ON t.account = p.account AND t.region = p.region AND t.name = p.thing
		WHERE p.account = ? AND p.region = ? AND p.principal = ? AND (p.type = ? OR p.thing = ?)
			AND p.thing IN (?, (SELECT thing FROM thing_principals WHERE account = ? AND region = ? AND principal = ? LIMIT 1))
		ORDER BY CASE p.type WHEN ? THEN 0 ELSE 1 END LIMIT 1`,
		s.Account, s.Region, key, string(fleet.Exclusive), clientID, clientID, s.Account, s.Region, key, string(fleet.Exclusive))
}

// Tie returns how a principal is tied to a thing; found is false if it is not.
func (tx *Tx) Tie(s fleet.Scope, thing, principal string) (kind fleet.PrincipalType, found bool, err error) {
	if a, known := tx.tiesSeen(s, principal); known {
		at := slices.IndexFunc(a.Things, func(a fleet.Attachment) bool { return a.Thing == thing })
		if at < 0 {
			return "", false, nil
		}
		return a.Things[at].Type, true, nil
	}
	text, found, err := one(tx, scanString, `SELECT type FROM thing_principals WHERE account = ? AND region = ? AND thing = ? AND principal = ?`,
		s.Account, s.Region, thing, principalKey(s, principal))
	return fleet.PrincipalType(text), found, err
}

// OtherTie returns one of the ties that a principal has to things other than this one. found is false if there is none.
func (tx *Tx) OtherTie(s fleet.Scope, thing, principal string) (other fleet.Attachment, found bool, err error) {
	if a, known := tx.tiesSeen(s, principal); known {
		at := slices.IndexFunc(a.Things, func(a fleet.Attachment) bool { return a.Thing != thing })
		if at < 0 {
			return other, false, nil
		}
		return a.Things[at], true, nil
	}
	return one(tx, attachmentScanner(s), `SELECT thing, principal, type FROM thing_principals
		WHERE account = ? AND region = ? AND principal = ? AND thing <> ? LIMIT 1`, s.Account, s.Region, principalKey(s, principal), thing)
}

// appendScan scans more columns after those that a row's own function knows.
type appendScan struct {
	scanner
	more []any
}

func (a appendScan) Scan(dest ...any) error { return a.scanner.Scan(append(dest, a.more...)...) }
