package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestABackupTakenWhileDevicesProvisionRestores saves a server in the middle of flows, by the verb that an operator has. What
// devices were told before the backup began is complete in the restored folder, and they connect with it.
func TestABackupTakenWhileDevicesProvisionRestores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := ownServer(t)
	w := newWorld(t, s, "backup")

	const workers, each = 3, 3
	done := w.provisionAtOnce(t, dir, workers, each)
	file := filepath.Join(dir, "backup.tar")
	var before []agentStatus
	saved := false
	for st := range done {
		if saved {
			continue
		}
		if before = append(before, st); len(before) == workers {
			s.run(t, dir, nil, imprint(), "backup", "--data", s.data, file)
			saved = true
		}
	}
	check(t, s.stop())

	again := t.TempDir()
	s.run(t, dir, nil, imprint(), "restore", "--data", filepath.Join(again, "imprint-data"), file)
	restored, err := start(again)
	check(t, err)
	t.Cleanup(func() { check(t, restored.stop()) })
	w.site, w.admin = restored, restored.adminSDK(t)
	for _, st := range before {
		serial := strings.TrimPrefix(st.ThingName, w.thing(""))
		cert, err := os.ReadFile(st.Files.Certificate)
		check(t, err)
		key, err := os.ReadFile(st.Files.PrivateKey)
		check(t, err)
		c := created{CertificateID: st.CertificateID, CertificatePEM: string(cert), PrivateKey: string(key)}
		w.checkRegistry(t, serial, c)
		w.checkHeldToPolicy(t, variants()[0], serial, c)
	}
}
