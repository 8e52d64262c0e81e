package rule

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
)

func storeIn(s fleet.Scope, role, name, key string) fleet.RuleAction {
	return fleet.RuleAction{S3: &fleet.S3Action{Role: s.IAM("role/" + role), Bucket: name, Key: key}}
}

func TestResultsBecomeObjects(t *testing.T) {
	t.Parallel()
	objects, err := bucket.NewFolder(bucket.FolderConfig{Dir: filepath.Join(t.TempDir(), "buckets"), Home: here})
	w := newWorld(t, func(c *Config) { c.Objects = objects })
	w.ok(err)
	w.ok(objects.CreateBucket(t.Context(), here, "readings"))
	w.ok(objects.CreateBucket(t.Context(), there, "theirs"))
	w.role(here, "keeper", "s3:PutObject", "arn:aws:s3:::*/lamps/*")
	w.rule(here, "keep", `SELECT t FROM 'in'`, storeIn(here, "keeper", "${get(*, 'bucket')}", "lamps/${clientid()}/${n}.json"))
	w.rule(here, "raw", `SELECT * FROM 'raw'`, storeIn(here, "keeper", "readings", "lamps/raw"))

	w.publish(here, "in", `{"bucket":"readings","n":1,"t":20}`)
	w.publish(here, "raw", "\x00\x01")
	w.until("both objects", func() bool { return w.actions["S3Action "+OK] == 2 })
	for key, want := range map[string]string{"lamps/lamp/1.json": `{"t":20}`, "lamps/raw": "\x00\x01"} {
		_, r, err := objects.Open(t.Context(), here, "readings", key, 0)
		w.ok(err)
		text, err := io.ReadAll(r)
		w.ok(err)
		w.ok(r.Close())
		if string(text) != want {
			t.Errorf("%s holds %q, want %q", key, text, want)
		}
	}

	w.rule(here, "elsewhere", `SELECT * FROM 'other'`, storeIn(here, "keeper", "readings", "other/${n}"))
	bad := []struct{ topic, message, why string }{
		{"in", `{"bucket":"theirs","n":1}`, "does not exist"}, // another account's
		{"in", `{"bucket":"none","n":1}`, "does not exist"},
		{"in", `{"bucket":"` + bucket.Reports + `","n":1}`, "the service's own"},
		{"in", `{"bucket":"..","n":1}`, "not valid"},
		{"in", `{"bucket":"readings"}`, "is undefined"},
		{"other", `{"n":1}`, "s3:PutObject"}, // the role allows another key
	}
	for i, row := range bad {
		w.publish(here, row.topic, row.message)
		w.until("its refusal", func() bool { return w.actions["S3Action "+Failed] == i+1 && len(w.traces) == i+1 })
		w.mu.Lock()
		if text := w.traces[i].Cause; !strings.Contains(text, row.why) {
			t.Errorf("%s: told %s, want %q", row.message, text, row.why)
		}
		w.mu.Unlock()
	}
	if n := len(bad); w.actions["S3Action "+OK] != 2 {
		t.Errorf("of %d bad messages one was stored", n)
	}
}
