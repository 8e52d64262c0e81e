package power

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// A registrar registers things from a file while the recording runs.
type registrar struct {
	people
	lines int
	each  int // of so many lines one is bad
	input string
	bad   map[int]bool // lines
	task  string
	seen  []int // lines that the task was seen to have done

	uploaded, begun, done int // cuts at which the file was there, the task in work, and at its end
}

const bulkKey = "in/lines.json"

// A bulkTask is a task as AWS describes it.
type bulkTask struct {
	TaskID                     string `json:"taskId"`
	Status, Message            string
	SuccessCount, FailureCount int
}

func (t bulkTask) lines() int { return t.SuccessCount + t.FailureCount }

func (t bulkTask) active() bool { return t.Status == "InProgress" }

// write makes the file, whose bad lines are bad in turn in each way.
func (g *registrar) write() error {
	var text bytes.Buffer
	_, csr, err := newKey()
	if err != nil {
		return err
	}
	g.bad = map[int]bool{}
	for n := 1; n <= g.lines; n++ {
		line := object{"ThingName": fmt.Sprintf("bulk-%06d", n), "CSR": csr}
		if n%g.each == g.each/2 {
			g.bad[n] = true
			switch n / g.each % 3 {
			case 0:
				line["CSR"] = "none"
			case 1:
				line["ThingName"] = "no name"
			case 2:
				text.WriteString("{\n")
				continue
			}
		}
		b, err := json.Marshal(line)
		if err != nil {
			return err
		}
		text.Write(append(b, '\n'))
	}
	g.input = text.String()
	return nil
}

// prepare makes what a task needs beside its input.
func (g *registrar) prepare(ctx context.Context, c *client.Client) error {
	iam := func(action string, in map[string]string) error {
		in["RoleName"] = "bulk"
		return c.Query(ctx, "iam", "2010-05-08", action, in, nil)
	}
	return errors.Join(
		iam("CreateRole", map[string]string{"AssumeRolePolicyDocument": document(object{"Statement": object{"Effect": "Allow",
			"Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}})}),
		iam("AttachRolePolicy", map[string]string{"PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"}),
		iam("PutRolePolicy", map[string]string{"PolicyName": "input", "PolicyDocument": document(object{"Statement": object{"Effect": "Allow",
			"Action": "s3:GetObject", "Resource": "arn:aws:s3:::plant/*"}})}),
		c.REST(ctx, "iot", http.MethodPost, "/policies/bulk", object{"policyDocument": document(object{"Statement": object{"Effect": "Allow",
			"Action": "iot:Connect", "Resource": "*"}})}, nil),
		c.REST(ctx, "s3", http.MethodPut, "/plant", nil, nil))
}

func (g *registrar) start(ctx context.Context, c *client.Client) (t bulkTask, err error) {
	text := object{"Type": "String"}
	body, err := json.Marshal(object{"Parameters": object{"ThingName": text, "CSR": text}, "Resources": object{
		"thing":       object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "ThingName"}}},
		"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateSigningRequest": object{"Ref": "CSR"}, "Status": "ACTIVE"}},
		"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": "bulk"}}}})
	if err != nil {
		return t, err
	}
	err = c.REST(ctx, "iot", http.MethodPost, "/thing-registration-tasks", object{"templateBody": string(body), "inputFileBucket": "plant", "inputFileKey": bulkKey,
		"roleArn": "arn:aws:iam::000000000000:role/bulk"}, &t)
	return t, err
}

func (g *registrar) describe(ctx context.Context, c *client.Client) (t bulkTask, err error) {
	err = c.REST(ctx, "iot", http.MethodGet, "/thing-registration-tasks/"+g.task, nil, &t)
	return t, err
}

// hand hands the file in, has the task started, and says what it saw.
func (g *registrar) hand(ctx context.Context, mark func(string) error) (*client.Client, bulkTask, error) {
	c, err := g.admin(g.env)
	if err != nil {
		return nil, bulkTask{}, err
	}
	if err := errors.Join(g.write(), g.prepare(ctx, c), mark("prepared")); err != nil {
		return nil, bulkTask{}, err
	}
	if err := c.PutObject(ctx, "plant", bulkKey, strings.NewReader(g.input), int64(len(g.input))); err != nil {
		return nil, bulkTask{}, err
	}
	if err := mark("uploaded"); err != nil {
		return nil, bulkTask{}, err
	}
	t, err := g.start(ctx, c)
	if err != nil {
		return nil, bulkTask{}, err
	}
	g.task = t.TaskID
	return c, t, mark("started")
}

// live registers the file, and says what it saw.
func (g *registrar) live(ctx context.Context, mark func(string) error) error {
	c, t, err := g.hand(ctx, mark)
	if err != nil {
		return err
	}
	for t.Status = "InProgress"; t.active(); {
		if t, err = g.describe(ctx, c); err != nil {
			return err
		}
		if n := len(g.seen); t.lines() > 0 && (n == 0 || g.seen[n-1] < t.lines()) {
			g.seen = append(g.seen, t.lines())
			if err := mark(doneMark(int64(t.lines()))); err != nil {
				return err
			}
		}
	}
	return errors.Join(g.whole(ctx, c, t), mark("ended"))
}

// report reads a report as anybody can who has the link.
func (g *registrar) report(ctx context.Context, c *client.Client, kind string, use func(line int, thing, certificate, code string) error) error {
	var links struct{ ResourceLinks []string }
	if err := c.REST(ctx, "iot", http.MethodGet, "/thing-registration-tasks/"+g.task+"/reports?reportType="+kind, nil, &links); err != nil {
		return err
	}
	if len(links.ResourceLinks) != 1 {
		return fmt.Errorf("the report %s has %d links", kind, len(links.ResourceLinks))
	}
	body, err := c.Download(ctx, links.ResourceLinks[0])
	if err != nil {
		return err
	}
	defer body.Close()
	for in, last := json.NewDecoder(body), 0; ; {
		var l struct {
			LineNumber int
			Response   struct {
				CertificatePem string
				ResourceArns   map[string]string
				Error          struct{ Code string }
			}
		}
		if err := in.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("the report %s: %w", kind, err)
		}
		if l.LineNumber <= last {
			return fmt.Errorf("the report %s has line %d after %d", kind, l.LineNumber, last)
		}
		last = l.LineNumber
		_, thing, _ := strings.Cut(l.Response.ResourceArns["thing"], "/")
		if err := use(l.LineNumber, thing, l.Response.CertificatePem, l.Response.Error.Code); err != nil {
			return fmt.Errorf("the report %s, line %d: %w", kind, l.LineNumber, err)
		}
	}
}

// whole looks at a task that has ended: each line is registered and reported, once and in all its parts.
func (g *registrar) whole(ctx context.Context, c *client.Client, t bulkTask) error {
	good := g.lines - len(g.bad)
	if t.Status != "Completed" || t.SuccessCount != good || t.FailureCount != len(g.bad) {
		return fmt.Errorf("the task has ended as %+v, want %d good and %d bad", t, good, len(g.bad))
	}
	certificates := map[string]string{} // of things, by the results
	results, bad := 0, 0
	err := g.report(ctx, c, "RESULTS", func(line int, thing, certificate, _ string) error {
		results++
		block, _ := pem.Decode([]byte(certificate))
		if g.bad[line] || thing != fmt.Sprintf("bulk-%06d", line) || block == nil {
			return fmt.Errorf("thing %q with a certificate of %d bytes", thing, len(certificate))
		}
		certificates[thing] = fleet.CertificateID(block.Bytes)
		return nil
	})
	err = errors.Join(err, g.report(ctx, c, "ERRORS", func(line int, _, _, code string) error {
		if bad++; !g.bad[line] || code == "" {
			return fmt.Errorf("code %q", code)
		}
		return nil
	}))
	if err != nil {
		return err
	}
	if results != good || bad != len(g.bad) {
		return fmt.Errorf("%d results and %d errors are reported", results, bad)
	}
	return g.registered(ctx, c, certificates)
}

// registered compares the registry with the results.
func (g *registrar) registered(ctx context.Context, c *client.Client, certificates map[string]string) error {
	has, err := readOnce(ctx, c)
	if err != nil {
		return err
	}
	if len(has.things) != len(certificates) || len(has.status) != len(certificates) {
		return fmt.Errorf("there are %d things and %d certificates for %d results", len(has.things), len(has.status), len(certificates))
	}
	for thing, id := range certificates {
		if got := has.things[thing]; len(got) != 1 || got[0] != id || has.status[id] != "ACTIVE" || !slices.Equal(has.policies[id], []string{"bulk"}) {
			return fmt.Errorf("%s has the certificates %v, the result says %s, which is %s and has the policies %v", thing, got, id, has.status[id], has.policies[id])
		}
	}
	return nil
}

// check sees that nothing is lost that was seen, and lets the task end.
func (g *registrar) check(ctx context.Context, s *site, rec *recording, cut int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	c, err := g.admin(s.env)
	if err != nil || !rec.seen("uploaded", cut) {
		return err
	}
	if !rec.seen("started", cut) {
		g.uploaded++
		t, err := g.start(ctx, c)
		if code := client.Code(err); code == "InvalidRequestException" { // it was started, and nobody heard of it
			return nil
		}
		if err != nil {
			return err
		}
		defer func(id string) { g.task = id }(g.task)
		g.task = t.TaskID
	}
	t, err := g.describe(ctx, c)
	if err != nil {
		return err
	}
	for _, n := range g.seen {
		if rec.seen(doneMark(int64(n)), cut) && t.lines() < n {
			return fmt.Errorf("%d lines were done, now %d are", n, t.lines())
		}
	}
	if t.active() {
		g.begun++
	} else {
		g.done++
	}
	if t, err = g.until(ctx, c, g.lines); err != nil {
		return err
	}
	return g.whole(ctx, c, t)
}

// until waits until a task has done so many lines, or has ended.
func (g *registrar) until(ctx context.Context, c *client.Client, lines int) (bulkTask, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		t, err := g.describe(ctx, c)
		if err != nil || !t.active() || t.lines() >= lines && lines < g.lines {
			return t, err
		}
		<-tick.C
	}
}

// cutBulk takes the power away at moments of a recording.
func (g *registrar) cutBulk(rec *recording, cuts []int, ways []loss, left string) (err error) {
	for n, cut := range cuts {
		err = errors.Join(err, rec.survive(cut, ways[n/2%len(ways)], lie{}, left, func(s *site) error { return g.check(context.Background(), s, rec, cut) }))
	}
	return err
}

func observeBulk(dir string, lines int) (*recording, *registrar, error) {
	g := &registrar{people: *newPeople(), lines: lines, each: 50}
	rec, err := g.watch(bin, dir, g.live)
	return rec, g, err
}

// during picks operations of the disk while the task was in work, and one half-way.
func (g *registrar) during(rec *recording, rnd *rand.Rand, n int) (cuts []int) {
	var ops []int
	for _, at := range rec.disk.at {
		if at > rec.marks["started"] && at < rec.marks["ended"] {
			ops = append(ops, at+1)
		}
	}
	for range n {
		cuts = append(cuts, ops[rnd.IntN(len(ops))])
	}
	return append(cuts, ops[len(ops)/2])
}

// TestBulkRegistrationSurvivesAPowerCut: the file is there once its upload was answered, and each line is registered and reported
// once and whole, wherever the power goes.
func TestBulkRegistrationSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rec, g, err := observeBulk(dir, 300)
	if err != nil {
		t.Fatal(err)
	}
	rnd := newRand(t)
	cuts := append(append(rec.pick(rnd, 2, "prepared"), g.during(rec, rnd, 7)...), rec.marks["uploaded"]+1, rec.last())
	if err := g.cutBulk(rec, cuts, losses(rnd), filepath.Join(dir, "left")); err != nil {
		t.Error(err)
	}
	t.Logf("%d moments; %d cuts with the file there, %d with the task in work, %d at its end", len(rec.order), g.uploaded, g.begun, g.done)
	if g.uploaded == 0 || g.begun == 0 || g.done == 0 {
		t.Error("the cuts show nothing")
	}
}

// TestSoakPowerCutsOfBulkRegistration is that with a fleet of which one line in a thousand is bad. The recording of all would be
// too large: each loss of power begins another one.
func TestSoakPowerCutsOfBulkRegistration(t *testing.T) {
	cuts := manyCuts(t, 3)
	rnd := newRand(t)
	begin := time.Now()
	g := &registrar{people: *newPeople(), lines: 100_000, each: 1000}
	if n := os.Getenv("IMPRINT_LINES"); n != "" {
		var err error
		if g.lines, err = strconv.Atoi(n); err != nil {
			t.Fatal(err)
		}
	}
	l := &lives{binary: bin, dir: t.TempDir()}
	if err := l.over(g.cutFleet(t, l, cuts, losses(rnd))); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d lines, %d of them bad, and %d losses of power, in %v", g.lines, len(g.bad), l.lost, time.Since(begin).Round(time.Second))
}

// cutFleet takes the power away whenever another share of the lines is done.
func (g *registrar) cutFleet(t *testing.T, l *lives, cuts int, ways []loss) (err error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if g.env, err = l.begin(); err != nil {
		return err
	}
	c, _, err := g.hand(ctx, func(string) error { return nil })
	if err != nil {
		return err
	}
	for k := range cuts {
		had, err := g.until(ctx, c, (k+1)*g.lines/(cuts+1))
		if err != nil {
			return err
		}
		way, was := ways[k%len(ways)], l.life()
		if err := errors.Join(l.lose(way), os.RemoveAll(was)); err != nil { // there is no room for all lives
			return err
		}
		if _, err := l.again(); err != nil {
			return err
		}
		has, err := g.describe(ctx, c)
		if err != nil {
			return err
		}
		t.Logf("%s: %d lines were done before, %d are behind it, at %v", way.name, had.lines(), has.lines(), time.Now().Format(time.TimeOnly))
		if !had.active() || !has.active() || has.lines() < had.lines() {
			return fmt.Errorf("%+v has become %+v", had, has)
		}
	}
	ended, err := g.until(ctx, c, g.lines)
	if err != nil {
		return err
	}
	if err := g.whole(ctx, c, ended); err != nil {
		return err
	}
	if err := l.lose(ways[0]); err != nil {
		return err
	}
	return integrity(filepath.Join(l.disk(), "data", "imprint.db"))
}
