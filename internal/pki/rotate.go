package pki

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// A rotation of the roots takes three steps, each one write of the state file. Rotate makes new roots and issuers, which are
// handed out and trusted but sign nothing. When every device has learnt the new roots, FinishRotation puts them to use: from then
// on a client that pins the old roots alone cannot connect. DropOldRoots ends the handing out of the old ones. What old issuers
// have signed for devices stays valid throughout.

var (
	errRotating    = errors.New("a rotation of the roots is under way: finish it first (imprint ca rotate --finish)")
	errNotRotating = errors.New("no rotation of the roots is under way: imprint ca rotate begins one")
)

// Rotate begins a rotation. begun is false if one was under way already, which is left as it is.
func (a *Authority) Rotate(ctx context.Context) (begun bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	cas := slices.Clone(a.all())
	if rotating(cas) {
		return false, nil
	}
	for _, p := range a.plans() {
		c, err := a.create(ctx, cas, p, last(cas, p.parent, stageNext))
		if err != nil {
			return false, fmt.Errorf("making the next %s CA: %w", p.role, err)
		}
		c.stage = stageNext
		cas = append(cas, c)
	}
	if err := a.save(cas); err != nil {
		return false, err
	}
	closeRoots(cas)
	a.publish(cas)
	return true, nil
}

// FinishRotation puts the next roots and issuers to use and gives the server a certificate under them. Open connections are not
// disturbed.
func (a *Authority) FinishRotation(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	cas := slices.Clone(a.all())
	if !rotating(cas) {
		return errNotRotating
	}
	for i, c := range cas {
		if c.stage != stageNext {
			continue
		}
		used := *c // readers may hold the old one
		used.stage = stageInUse
		if !c.isRoot() {
			if err := used.open(ctx, a.cfg.Keys); err != nil {
				return err
			}
		}
		cas[i] = &used
	}
	return a.replace(ctx, cas)
}

// DropOldRoots ends the handing out of roots that are no longer in use. n is how many there were.
func (a *Authority) DropOldRoots() (n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	cas := slices.Clone(a.all())
	if rotating(cas) {
		return 0, errRotating
	}
	for i, c := range cas {
		if (c.role == roleServerRoot || c.role == roleServerRootRSA || c.role == roleAWSNamesRoot) && c.stage == stageInUse && c != current(cas, c.role) {
			dropped := *c
			dropped.stage = stageDropped
			cas[i] = &dropped
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	if err := a.save(cas); err != nil {
		return 0, err
	}
	a.publish(cas)
	return n, nil
}

// RotateIssuers makes new issuers under the roots in use and puts them to use at once: devices pin roots, so nobody need learn
// anything. roots are the keys of the roots if they are kept offline (ReadRoots); they are forgotten afterwards.
func (a *Authority) RotateIssuers(ctx context.Context, roots []crypto.Signer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	cas := slices.Clone(a.all())
	if rotating(cas) {
		return errRotating
	}
	if len(roots) > 0 && !slices.ContainsFunc(cas, func(c *ca) bool { return c.isRoot() && find(roots, c) != nil }) {
		return errForeignRoots
	}
	for _, p := range a.plans() {
		if p.parent == "" {
			continue
		}
		parent := *current(cas, p.parent)
		parent.signer = find(roots, &parent)
		c, err := a.create(ctx, cas, p, &parent)
		if err != nil {
			return fmt.Errorf("making a new %s CA: %w", p.role, err)
		}
		cas = append(cas, c)
	}
	return a.replace(ctx, cas)
}

// replace makes CAs durable, puts them to use and gives the server a certificate under them. Should the last step fail, Renew
// does it again; until then the old certificate serves.
func (a *Authority) replace(ctx context.Context, cas []*ca) error {
	if err := a.save(cas); err != nil {
		return err
	}
	closeRoots(cas)
	a.publish(cas)
	_, err := a.renew(ctx, a.cfg.Clock.Now())
	return err
}

func rotating(cas []*ca) bool {
	return slices.ContainsFunc(cas, func(c *ca) bool { return c.stage == stageNext })
}

func (c *ca) isRoot() bool {
	return c.role == roleServerRoot || c.role == roleServerRootRSA || c.role == roleDeviceRoot || c.role == roleAWSNamesRoot
}

// closeRoots forgets the keys of roots, which are not needed between rotations. Only holders of Authority.mu read them.
func closeRoots(cas []*ca) {
	for _, c := range cas {
		if c.isRoot() {
			c.signer = nil
		}
	}
}

// A CAInfo describes a CA to people.
type CAInfo struct {
	Role        string // server-root, server-root-rsa, device-root, server, server-rsa, device, claim, aws-names-root, aws-names
	Subject     string
	Fingerprint string // hex SHA-256 of the certificate
	NotAfter    time.Time
	State       string // in use, next, former, dropped
	Key         string // here, offline, unreachable, or where else its store says that it is
}

// listDeadline is how long CAs waits for all keys: a store that does not answer is told, not waited for.
const listDeadline = 2 * time.Second

// CAs lists all CAs in the order of their making.
func (a *Authority) CAs(ctx context.Context) []CAInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, listDeadline)
	defer cancel()
	var list []CAInfo
	cas := a.all()
	for _, c := range cas {
		sum := sha256.Sum256(c.cert.Raw)
		i := CAInfo{Role: string(c.role), Subject: c.cert.Subject.String(), Fingerprint: hex.EncodeToString(sum[:]), NotAfter: c.cert.NotAfter,
			State: string(c.stage)}
		switch {
		case c == current(cas, c.role):
			i.State = "in use"
		case c.stage == stageInUse:
			i.State = "former"
		}
		i.Key = a.whereIs(ctx, c.key)
		list = append(list, i)
	}
	return list
}

func (a *Authority) whereIs(ctx context.Context, key string) string {
	switch signer, err := a.cfg.Keys.Signer(ctx, key); {
	case errors.Is(err, fs.ErrNotExist):
		return "offline"
	case err != nil:
		return "unreachable"
	default:
		if s, ok := signer.(interface{ Where() string }); ok {
			return s.Where()
		}
		return "here"
	}
}
