package compat

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func imprint() string { return filepath.Join(bin, "imprint") }

func TestTheOperatorsVerbs(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	dir := t.TempDir()
	verb := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), args...)
	}
	roots, err := os.ReadFile(s.get("AWS_CA_BUNDLE"))
	check(t, err)
	if got := verb("ca", "--data", s.data); got != string(roots) {
		t.Errorf("ca printed %q", got)
	}

	// env is what a shell takes over, whatever the values hold.
	out := s.run(t, dir, []string{"AWS_ENDPOINT_URL=", "AWS_REGION="}, "bash", "-c", `eval "$(`+imprint()+` env --data "$IMPRINT_DATA")"; echo "$AWS_ENDPOINT_URL $AWS_REGION $IOT_PORT $AWS_DEFAULT_REGION"`)
	if want := s.get("AWS_ENDPOINT_URL") + " us-east-1 " + s.get("IOT_PORT") + " us-east-1\n"; out != want {
		t.Errorf("env gave %q, want %q", out, want)
	}

	if out := verb("env", "--data", s.data, "--region", "eu-west-1"); !strings.Contains(out, "export AWS_REGION='eu-west-1'\n") || !strings.Contains(out, "export AWS_DEFAULT_REGION='eu-west-1'\n") ||
		strings.Contains(out, "us-east-1") {
		t.Errorf("env of another region:\n%s", out)
	}

	// A key from the machine of the server works; so does one of a new account, which sees nothing of the first.
	keyForm := regexp.MustCompile(`AWS_ACCESS_KEY_ID=(AKIA\S{16})\nAWS_SECRET_ACCESS_KEY=(\S{40})\n`)
	for _, args := range [][]string{{"admin", "create-key", "--data", s.data}, {"account", "create", "second tenant", "--data", s.data}} {
		printed := verb(args...)
		m := keyForm.FindStringSubmatch(printed)
		if m == nil {
			t.Fatalf("%v printed %q", args, printed)
		}
		as := []string{"AWS_ACCESS_KEY_ID=" + m[1], "AWS_SECRET_ACCESS_KEY=" + m[2]}
		who := must[struct{ Account, Arn string }](t, s.run(t, dir, as, imprint(), "aws", "sts", "get-caller-identity"))
		if want := args[0] == "admin"; (who.Account == account) != want || !strings.HasSuffix(who.Arn, ":user/administrator") {
			t.Errorf("%v made a key of %+v", args, who)
		}
	}
	if list := verb("account", "list", "--data", s.data); !strings.Contains(list, account+"  main\n") || !strings.Contains(list, "  second tenant\n") {
		t.Errorf("accounts: %q", list)
	}
	config := verb("config", "--data", s.data, "--region", "eu-west-1")
	for _, want := range []string{`(?m)^data: \S+ +# --data$`, `(?m)^https-port: ` + s.get("IOT_ALPN_PORT") + ` +# fixed at first start$`,
		`(?m)^region: eu-west-1 +# --region, but it was fixed at first start: us-east-1$`, `(?m)^log-level: info +# default$`} {
		if !regexp.MustCompile(want).MatchString(config) {
			t.Errorf("config printed no %s:\n%s", want, config)
		}
	}
	if v := verb("version"); !strings.HasPrefix(v, "imprint ") {
		t.Errorf("version: %q", v)
	}
}

func TestVerbsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	dir := t.TempDir()
	none := []string{"AWS_ENDPOINT_URL=", "IMPRINT_DATA=" + dir}
	typo := filepath.Join(dir, "typo.yaml")
	check(t, os.WriteFile(typo, []byte("host: localhost\nhtps-port: 1\n"), 0o600))
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"env", "--data", dir}, "is it running"},
		{[]string{"ca", "--data", dir}, "reading the roots"},
		{[]string{"explain", "x", "--data", dir}, "start one with `imprint serve`"},
		{[]string{"aws", "iot", "list-things"}, "start one with `imprint serve`"},
		{[]string{"admin", "create-key", "--data", dir}, "no server runs on"},
		{[]string{"serve", "--data", s.data}, "another imprint serve uses"},
		{[]string{"serve", "--data", dir}, "others can read the data folder"},
		{[]string{"serve", "--config", typo}, typo + ":2: there is no setting htps-port: did you mean https-port?"},
		{[]string{"config", "check", typo}, "did you mean https-port?"},
		{[]string{"serve", "--data", filepath.Join(dir, "new"), "--region", "moon"}, "a region looks like us-east-1"},
	} {
		out, err := s.try(t, dir, none, imprint(), c.args...)
		if err == nil || !strings.Contains(out, c.text) {
			t.Errorf("%v: %v, %q; want %q", c.args, err, out, c.text)
		}
	}
	if out, err := s.try(t, dir, nil, imprint(), "explain", "--data", s.data, "nobody-knows-this"); err == nil || !strings.Contains(out, "nothing is known of") {
		t.Errorf("explain of a stranger: %v, %q", err, out)
	}
}
