package compat

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// follow runs the administrator's part of the quick start and the commands of a page of docs, then more, in one shell with the variables of
// env. The page's files stand in its folder, with the server's address.
func (s *site) follow(t *testing.T, page, more string, env ...string) string {
	t.Helper()
	dir := filepath.Dir(s.data) // imprint-data is in it, as the pages have it
	text := document(t, page)
	for name, block := range fileBlocks(text) {
		block = strings.ReplaceAll(block, "https://localhost:8443", s.get("AWS_ENDPOINT_URL"))
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(block), 0o600))
	}
	administrator, _, _ := strings.Cut(document(t, "quickstart.md"), "## The trusted user")
	return s.run(t, dir, env, "bash", "-c", "set -euo pipefail\nset -x\nexport PATH=/usr/bin:$PATH\n"+codeBlocks(administrator)+codeBlocks(text)+more)
}

func wantOutput(t *testing.T, out string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			t.Errorf("the page's commands never printed %q", p)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestThePageOfTheCLIWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	out := s.follow(t, "clients/cli.md", "")
	wantOutput(t, out, `assumed-role/installers-authRole/CognitoIdentityCredentials`, `(?m)^listing the fleet is refused$`)
	claim, err := os.ReadFile(filepath.Join(filepath.Dir(s.data), "claim.json"))
	check(t, err)
	if c := must[sampleClaim](t, string(claim)); !strings.Contains(c.CertificatePEM, "BEGIN CERTIFICATE") {
		t.Errorf("the claim: %.200s", claim)
	}
}

func TestThePageOfTheSDKsWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	dir := filepath.Dir(s.data)
	here, err := os.Getwd()
	check(t, err)
	check(t, os.Symlink(filepath.Join(here, "node", "node_modules"), filepath.Join(dir, "node_modules")))
	// go run resolves the packages of the module that it runs in.
	out := s.follow(t, "clients/sdks.md", "node claim.mjs && /usr/bin/python3 -W ignore claim.py && here=$PWD && cd '"+here+"' && CGO_ENABLED=0 go run $here/claim.go\n")
	wantOutput(t, out, `(?m)^claim by JavaScript [0-9a-f]{64}$`, `(?m)^claim by Python [0-9a-f]{64}$`, `(?m)^claim by Go [0-9a-f]{64}$`)
}
