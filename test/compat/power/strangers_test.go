package power

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/server"
)

// Strangers are devices with certificates of the customer's CA that somebody has to let in: their first connection publishes an
// event, which a rule hands on (docs/own-ca.md, just-in-time registration). The rule stores it, and the test does what a function
// would.
type strangers struct {
	newcomers
	decided int // devices over all cuts that had been let in
}

const events = "events" // a bucket

// listen makes the rule.
func (n *strangers) listen(ctx context.Context, c *client.Client) error {
	const role = "provisioning"
	return errors.Join(
		c.REST(ctx, "s3", http.MethodPut, "/"+events, nil, nil),
		c.Query(ctx, "iam", "2010-05-08", "PutRolePolicy", map[string]string{"RoleName": role, "PolicyName": events,
			"PolicyDocument": document(object{"Statement": object{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::" + events + "/*"}})}, nil),
		c.REST(ctx, "iot", http.MethodPost, "/rules/registration", object{"awsIotSqlVersion": "2016-03-23", "sql": "SELECT * FROM '$aws/events/certificates/registered/#'",
			"actions": []object{{"s3": object{"roleArn": "arn:aws:iam::000000000000:role/" + role, "bucketName": events, "key": "${certificateId}"}}}}, nil))
}

// told waits until the rule has handed on that a device waits.
func (n *strangers) told(ctx context.Context, c *client.Client, d identity) error {
	tick, late := time.NewTicker(20*time.Millisecond), time.After(startTimeout)
	defer tick.Stop()
	for {
		var event struct{ CertificateID, CertificateStatus string }
		err := c.REST(ctx, "s3", http.MethodGet, "/"+events+"/"+d.ID, nil, &event)
		if err == nil && (event.CertificateID != d.ID || event.CertificateStatus != "PENDING_ACTIVATION") {
			err = fmt.Errorf("the event is %+v", event)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("nobody hears that certificate %s waits: %w", d.ID, err)
		}
	}
}

// letIn does what a function would.
func (n *strangers) letIn(ctx context.Context, c *client.Client, d identity) error {
	return errors.Join(c.REST(ctx, "iot", http.MethodPut, "/target-policies/"+policy, object{"target": "arn:aws:iot:us-east-1:000000000000:cert/" + d.ID}, nil),
		c.REST(ctx, "iot", http.MethodPut, "/certificates/"+d.ID+"?newStatus=ACTIVE", nil, nil))
}

func (n *strangers) live(ctx context.Context, mark func(string) error) error {
	c, err := n.admin(n.env)
	if err != nil {
		return err
	}
	if err := errors.Join(n.prepare(ctx, c), n.register(ctx, c, object{}), n.listen(ctx, c), mark("registered")); err != nil {
		return err
	}
	for i := range 6 {
		name := strconv.Itoa(i)
		d, err := n.arrive(name, mark)
		if err != nil {
			return err
		}
		if i%2 == 0 {
			if err := errors.Join(n.told(ctx, c, d), n.letIn(ctx, c, d), mark("in "+name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// check looks for what was promised: whoever was let in is in, whose first connection ended is not forgotten, and all come in at last.
func (n *strangers) check(ctx context.Context, s *site, rec *recording, cut int) error {
	c, err := n.admin(s.env)
	if err != nil {
		return err
	}
	had, err := readRegistry(ctx, c)
	if err != nil {
		return err
	}
	for i, d := range n.list {
		name := strconv.Itoa(i)
		left, in, status := rec.seen("left "+name, cut), rec.seen("in "+name, cut), had.status[d.ID]
		switch {
		case in && (status != "ACTIVE" || !slices.Equal(had.policies[d.ID], []string{policy})):
			return fmt.Errorf("device %s was let in, and its certificate is %q with the policies %v", name, status, had.policies[d.ID])
		case in:
			n.decided++
		case left && status != "PENDING_ACTIVATION" && (i%2 > 0 || status != "ACTIVE"):
			return fmt.Errorf("the first connection of device %s has ended, and its certificate is %q", name, status)
		case left:
			n.done++
		}
		if err := n.goOn(ctx, s.env, c, d, thingName(name), left, in); err != nil {
			return fmt.Errorf("device %s does not come in: %w", name, err)
		}
	}
	return nil
}

// goOn lets a device in, if nobody has: one whose first connection has ended need not come again for that.
func (n *strangers) goOn(ctx context.Context, env server.Env, c *client.Client, d identity, name string, left, in bool) error {
	if !left {
		n.finished++
		if conn, err := connect(env, d, name); err == nil {
			conn.Disconnect(0)
			return errors.New("the first connection was answered")
		}
	}
	if !in {
		if err := errors.Join(n.told(ctx, c, d), n.letIn(ctx, c, d)); err != nil {
			return err
		}
	}
	conn, err := connect(env, d, name)
	if err == nil {
		conn.Disconnect(0)
	}
	return err
}

// TestWhoWaitsToBeLetInIsNotForgottenByAPowerCut: the event of a first connection is done with when the rule is, wherever the power goes.
func TestWhoWaitsToBeLetInIsNotForgottenByAPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := &strangers{newcomers: newcomers{people: *newPeople()}}
	rec, err := n.watch(bin, dir, n.live)
	if err != nil {
		t.Fatal(err)
	}
	rnd := newRand(t)
	ways := losses(rnd)
	survive := func(cut int, way loss, told lie) error {
		return rec.survive(cut, way, told, filepath.Join(dir, "left"), func(s *site) error { return n.check(context.Background(), s, rec, cut) })
	}
	for i, cut := range append(rec.pick(rnd, cuts/2, "registered"), rec.marks["left 2"]+1, rec.marks["left 5"]+1) {
		if err := survive(cut, ways[i/2%len(ways)], lie{}); err != nil {
			t.Error(err)
		}
	}
	t.Logf("over all cuts %d devices had been let in, %d waited, and %d came after it", n.decided, n.done, n.finished)
	if n.decided == 0 || n.done == 0 || n.finished == 0 {
		t.Error("the cuts show nothing")
	}
	deaf := lie{deaf: func(name string) bool { return name == "data/imprint.db-wal" }}
	if rec.missed(func(cut int) error { return survive(cut, ways[0], deaf) }) == nil {
		t.Error("nobody missed the syncs of the write-ahead log")
	}
}
