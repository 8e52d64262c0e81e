package gateway

import (
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// What a flow writes hardly depends on how many things there are: 45 pages of SQLite's log among a thousand things, 47 among a hundred
// thousand. They can be counted where time can't, but for those of traces, which come in groups that time decides.
func TestAFlowWritesFewPagesAmongManyThings(t *testing.T) {
	t.Parallel()
	const most = 56
	if n := writtenPages(t, 10_000); n > most {
		t.Errorf("a flow writes %.1f pages, %d are enough", n, most)
	}
}

// writtenPages is how many pages of SQLite's log a flow takes among n things, on the average of some that come one after the other.
func writtenPages(t *testing.T, n int) float64 {
	path := filepath.Join(t.TempDir(), "imprint.db")
	s := newSiteOn(t, func(c *store.Config) { c.Rehearse, c.Path, c.URL = false, path, "" })
	s.policy("lamp", allow("iot:*"))
	_, err := s.prov.CreateTemplate(t.Context(), s.ann, provision.NewTemplate{Name: "many", Body: manyLamps, RoleARN: here.IAM("role/provisioner"), Enabled: new(true)})
	check(t, err)
	claim := s.claim("many")
	raw, err := sql.Open("sqlite", path)
	check(t, err)
	t.Cleanup(func() { check(t, raw.Close()) })
	raw.SetMaxOpenConns(1)
	do := func(statement string) error { _, err := raw.ExecContext(t.Context(), statement); return err }
	storetest.Crowd{Scope: here, N: n}.Fill(t, do)
	s.flow(claim, "first")
	check(t, do("PRAGMA wal_checkpoint(TRUNCATE)"))
	const flows = 10 // too few for the log to begin anew
	for i := range flows {
		s.flow(claim, strconv.Itoa(i))
	}
	log, err := os.Stat(path + "-wal")
	check(t, err)
	return float64(log.Size()) / (4096 + 24) / flows // "WAL File Format": a header of 24 bytes before each page
}

// flow provisions a device, which connects then.
func (s *site) flow(claim device, serial string) {
	c := s.open(claim, 4).Connected("new")
	<-s.traces
	key := newKey(s.t)
	created := answer(s.t, exchange(c, createCSRJSON, body(s.t, "json", map[string]any{"certificateSigningRequest": csr(s.t, key)})), createCSRJSON+"/accepted")
	const topic = "$aws/provisioning-templates/many/provision/json"
	answer(s.t, exchange(c, topic, body(s.t, "json", map[string]any{"certificateOwnershipToken": created["certificateOwnershipToken"],
		"parameters": map[string]string{"Serial": serial}})), topic+"/accepted")
	c.Disconnect()
	s.open(holder(created["certificatePem"].(string), key), 4).Connected("lamp-" + serial).Subscribe("a/b")
	<-s.traces
}
