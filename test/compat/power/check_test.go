package power

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	_ "modernc.org/sqlite"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/server"
)

// survive takes the power away at cut, starts the server on what is left, and returns what is not as it must be.
func (p *people) survive(rec *recording, cut int, l loss, told lie, dir string) error {
	return rec.survive(cut, l, told, dir, func(s *site) error { return p.check(context.Background(), s, rec, cut) })
}

// survive is that of people, with another check.
func (r *recording) survive(cut int, l loss, told lie, dir string, check func(*site) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("power lost at line %d of the recording, %s: %w", cut, l.name, err)
		}
	}()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := r.disk.restore(dir, cut, l, told); err != nil {
		return err
	}
	s, err := start(dir, r.ports)
	if err != nil {
		return err
	}
	err = check(s)
	s.kill()
	return errors.Join(err, integrity(filepath.Join(s.data, "imprint.db")))
}

// check looks at everything that clients had seen before the cut, and lets those that were cut off go on.
func (p *people) check(ctx context.Context, s *site, rec *recording, cut int) error {
	if !rec.seen("ready", cut) {
		return nil
	}
	if roots, err := os.ReadFile(filepath.Join(s.data, server.RootsFile)); err != nil || string(roots) != p.roots {
		return fmt.Errorf("the roots are others than clients were given (%v)", err)
	}
	c, err := p.admin(s.env)
	if err != nil {
		return err
	}
	if !rec.seen("prepared", cut) {
		return c.REST(ctx, "iot", http.MethodGet, "/things", nil, nil) // the administrator's key works
	}
	sent, err := outbox(s.data)
	if err != nil {
		return err
	}
	for _, user := range p.users {
		if rec.seen("invited "+user, cut) && !sent[user] {
			return fmt.Errorf("the invitation of %s is lost", user)
		}
	}
	had, err := readRegistry(ctx, c)
	if err != nil {
		return err
	}
	if err := had.whole(); err != nil {
		return err
	}
	return p.goOn(ctx, s, c, rec, cut, had)
}

// goOn checks the devices that were done, and lets the others finish.
func (p *people) goOn(ctx context.Context, s *site, c *client.Client, rec *recording, cut int, had registry) error {
	want := map[string]string{} // certificate by thing
	var done *device
	for _, d := range p.devices {
		if !rec.seen("claim "+d.serial, cut) {
			continue
		}
		if rec.seen("registered "+d.serial, cut) {
			if got := had.things[d.thing]; len(got) != 1 || got[0] != d.own.ID {
				return fmt.Errorf("%s was registered with certificate %s, but has %v", d.thing, d.own.ID, got)
			}
			want[d.thing], done = d.own.ID, d
			p.done++
			continue
		}
		if left, err := d.claim.left(); err != nil {
			return err
		} else if left < time.Minute { // the server's clock is the machine's: after many cuts on a slow one nobody gets in with it
			continue
		}
		again := &device{serial: d.serial, claim: d.claim}
		if rec.seen("created "+d.serial, cut) {
			again.own, again.token = d.own, d.token
		}
		if err := again.provision(ctx, s.env, c, func(string) error { return nil }); err != nil {
			return fmt.Errorf("device %s, cut off, does not finish: %w", d.serial, err)
		}
		want[again.thing] = again.own.ID
		p.finished++
	}
	has, err := readRegistry(ctx, c)
	if err != nil {
		return err
	}
	if err := has.whole(); err != nil {
		return fmt.Errorf("after devices went on: %w", err)
	}
	for thing, cert := range want {
		if got := has.things[thing]; len(got) != 1 || got[0] != cert {
			return fmt.Errorf("after devices went on: %s must have certificate %s alone, and has %v", thing, cert, got)
		}
	}
	if done != nil {
		var use struct{ Devices int }
		if err := c.REST(ctx, "imprint", http.MethodGet, "/imprint/claims/"+done.claim.ID+"/limits", nil, &use); err != nil || use.Devices != 1 {
			return fmt.Errorf("the claim of %s has registered %d devices (%v)", done.thing, use.Devices, err)
		}
	}
	if err := p.checkMessages(s, p.talker, rec, cut); err != nil {
		return err
	}
	if done == nil {
		return nil
	}
	conn, err := connect(s.env, *done.own, done.thing)
	if err != nil {
		return fmt.Errorf("%s cannot connect with its certificate: %w", done.thing, err)
	}
	conn.Disconnect(0)
	return nil
}

// A registry is what the server says it has.
type registry struct {
	things   map[string][]string // certificates that are attached
	status   map[string]string   // of certificates
	policies map[string][]string // of certificates
}

// readRegistry reads until two readings in a row agree: it takes many requests, and a server that has just started takes those
// certificates out of service that are due.
func readRegistry(ctx context.Context, c *client.Client) (registry, error) {
	var before registry
	for range 20 {
		r, err := readOnce(ctx, c)
		if err != nil || reflect.DeepEqual(r, before) {
			return r, err
		}
		before = r
	}
	return registry{}, errors.New("the registry never stands still")
}

func readOnce(ctx context.Context, c *client.Client) (registry, error) {
	r := registry{map[string][]string{}, map[string]string{}, map[string][]string{}}
	for token := ""; ; {
		var page struct {
			Things    []struct{ ThingName string }
			NextToken string
		}
		if err := c.REST(ctx, "iot", http.MethodGet, "/things?maxResults=250"+token, nil, &page); err != nil {
			return r, err
		}
		for _, t := range page.Things {
			var out struct{ Principals []string }
			if err := c.REST(ctx, "iot", http.MethodGet, "/things/"+t.ThingName+"/principals", nil, &out); err != nil {
				return r, err
			}
			r.things[t.ThingName] = nil
			for _, arn := range out.Principals {
				r.things[t.ThingName] = append(r.things[t.ThingName], arn[strings.LastIndexByte(arn, '/')+1:])
			}
		}
		if page.NextToken == "" {
			break
		}
		token = "&nextToken=" + url.QueryEscape(page.NextToken)
	}
	for marker := ""; ; {
		var page struct {
			Certificates []struct{ CertificateID, CertificateArn, Status string }
			NextMarker   string
		}
		if err := c.REST(ctx, "iot", http.MethodGet, "/certificates?pageSize=250"+marker, nil, &page); err != nil {
			return r, err
		}
		for _, cert := range page.Certificates {
			var out struct{ Policies []struct{ PolicyName string } }
			if err := c.REST(ctx, "iot", http.MethodPost, "/attached-policies/"+url.PathEscape(cert.CertificateArn), nil, &out); err != nil {
				return r, err
			}
			r.status[cert.CertificateID] = cert.Status
			for _, p := range out.Policies {
				r.policies[cert.CertificateID] = append(r.policies[cert.CertificateID], p.PolicyName)
			}
		}
		if page.NextMarker == "" {
			break
		}
		marker = "&marker=" + url.QueryEscape(page.NextMarker)
	}
	return r, nil
}

// whole reports what is there in part: all things here come from registrations, which make a thing with one active certificate
// that has the policy, all at once.
func (r registry) whole() error {
	owner := map[string]string{}
	for thing, certs := range r.things {
		if len(certs) != 1 {
			return fmt.Errorf("%s has the certificates %v", thing, certs)
		}
		owner[certs[0]] = thing
		if r.status[certs[0]] != "ACTIVE" {
			return fmt.Errorf("the certificate of %s is %q", thing, r.status[certs[0]])
		}
	}
	for id, status := range r.status {
		active := status == "ACTIVE"
		if active != (owner[id] != "") || active != (len(r.policies[id]) == 1) || len(r.policies[id]) > 1 {
			return fmt.Errorf("certificate %s is %s, with thing %q and policies %v", id, status, owner[id], r.policies[id])
		}
	}
	return nil
}

// integrity has SQLite look at every page.
func integrity(path string) error {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return err
	}
	defer db.Close()
	var said string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&said); err != nil || said != "ok" {
		return fmt.Errorf("the database is damaged: %v %s", err, said)
	}
	rows, err := db.Query("PRAGMA foreign_key_check")
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		return errors.New("the database has rows that refer to none")
	}
	return rows.Err()
}
