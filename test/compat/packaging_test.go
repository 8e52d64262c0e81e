package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tool runs a program from the top of the source.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// What apt would install, without its scripts: `make deb-test` runs those in a fresh Debian.
func TestTheDebianPackagesHoldWhatTheyStart(t *testing.T) {
	t.Parallel()
	out, root := t.TempDir(), t.TempDir()
	tool(t, "env", "COMPRESS=none", "sh", "scripts/deb", "go", "v1.2.3-4-gabcdef0", bin, filepath.Join(out, "debs"))
	debs, err := filepath.Glob(filepath.Join(out, "debs", "*_1.2.3+4.gabcdef0_*.deb"))
	check(t, err)
	if len(debs) != 2 {
		t.Fatalf("packages: %v", debs)
	}
	for _, deb := range debs {
		tool(t, "dpkg-deb", "-x", deb, root)
		for _, line := range strings.Split(strings.TrimSpace(tool(t, "dpkg-deb", "-c", deb)), "\n") {
			f := strings.Fields(line)
			if link := f[0][0] == 'l'; f[1] != "root/root" || !link && (f[0][5] != '-' || f[0][8] != '-') {
				t.Errorf("%s: anybody but root may write: %s", filepath.Base(deb), line)
			}
		}
	}
	control := t.TempDir()
	tool(t, "dpkg-deb", "-e", debs[1], control) // in the order of their names: imprint-device, imprint
	if conffiles, err := os.ReadFile(filepath.Join(control, "conffiles")); err != nil || string(conffiles) != "/etc/imprint/imprint.yaml\n" {
		t.Errorf("an upgrade would overwrite the configuration: %q, %v", conffiles, err)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		tool(t, "sh", "-n", filepath.Join(control, script))
	}
	if v := tool(t, filepath.Join(root, "usr/bin/imprint"), "version"); !strings.HasPrefix(v, "imprint ") {
		t.Errorf("the binary says %q", v)
	}
	tool(t, filepath.Join(root, "usr/bin/imprint-device"), "version")
	if said := tool(t, filepath.Join(root, "usr/bin/imprint"), "config", "check", filepath.Join(root, "etc/imprint/imprint.yaml")); !strings.Contains(said, "is fine: 1 settings") {
		t.Errorf("the configuration: %s", said)
	}
}

func TestTheUnitsAreSoundAndConfined(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	check(t, os.MkdirAll(units, 0o755))
	for _, name := range []string{"imprint", "imprint-device"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "packaging", name+".service"))
		check(t, err)
		program := regexp.MustCompile(`(?m)^ExecStart=(/usr/bin/\S+)`).FindSubmatch(text)
		if program == nil {
			t.Fatalf("%s starts nothing", name)
		}
		// systemd-analyze looks whether the program is there, here and not in a root.
		here := strings.Replace(string(text), string(program[1]), filepath.Join(bin, filepath.Base(string(program[1]))), 1)
		unit := filepath.Join(units, name+".service")
		check(t, os.WriteFile(unit, []byte(here), 0o644))
		if said := tool(t, "systemd-analyze", "verify", "--man=no", unit); strings.Contains(said, name) {
			t.Errorf("%s: %s", name, said)
		}
		// The scale goes from 0 (confined) to 10, in tenths here.
		tool(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", unit)
	}
	// What functions need costs little of that.
	drop, err := os.ReadFile(filepath.Join("..", "..", "packaging", "functions.conf"))
	check(t, err)
	unit := filepath.Join(units, "imprint.service")
	check(t, os.Mkdir(unit+".d", 0o755))
	check(t, os.WriteFile(filepath.Join(unit+".d", "functions.conf"), drop, 0o644))
	if said := tool(t, "systemd-analyze", "verify", "--man=no", unit); strings.Contains(said, "imprint") || strings.Contains(said, "functions.conf") {
		t.Errorf("with functions: %s", said)
	}
	tool(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=27", unit)
}

func TestTheImageCopiesWhatThereIs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../packaging/Dockerfile")
	check(t, err)
	copies := regexp.MustCompile(`(?m)^COPY (?:--\S+ )*(\S+) \S+$`).FindAllStringSubmatch(string(text), -1)
	if len(copies) == 0 {
		t.Fatal("nothing is copied")
	}
	for _, c := range copies {
		path := filepath.Join("..", "..", c[1])
		if built, ok := strings.CutPrefix(c[1], "bin/"); ok { // made by `make build`
			path = filepath.Join(bin, built)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the image wants %s: %v", c[1], err)
		}
	}
	if ignored, err := os.ReadFile("../../.dockerignore"); err == nil && strings.Contains(string(ignored), "bin") {
		t.Errorf(".dockerignore leaves out what is copied:\n%s", ignored)
	}
}
