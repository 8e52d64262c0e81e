package compat

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// plugins finds a folder with Terraform's provider for AWS, as `terraform providers mirror` makes it: IMPRINT_TERRAFORM_PLUGINS names it, else
// it is one of those that Terraform looks into by itself. Where there is none or no Terraform, the test is not for this machine: the provider is a program of
// 700 MB of which no package exists. What it asks of the server is asked by the tests beside this one, which repeat its calls.
func plugins(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("no terraform here")
	}
	home, _ := os.UserHomeDir()
	for _, dir := range []string{os.Getenv("IMPRINT_TERRAFORM_PLUGINS"), filepath.Join(home, ".terraform.d/plugins"), "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"} {
		if found, _ := filepath.Glob(filepath.Join(dir, "registry.terraform.io/hashicorp/aws/*")); dir != "" && len(found) > 0 {
			return dir
		}
	}
	t.Skip("no folder with Terraform's provider for AWS: name one by IMPRINT_TERRAFORM_PLUGINS")
	return ""
}

// Terraform itself makes, changes, changes back and deletes what three configurations say. After each step a plan must find nothing to do.
func TestTerraformFindsNothingToDoAfterItself(t *testing.T) {
	t.Parallel()
	mirror := plugins(t)
	for _, name := range []string{"page", "registry", "people"} {
		t.Run(name, func(t *testing.T) { // one after the other: each takes as much memory as a browser
			s := ownServer(t, "--thing-type-wait", "0s")
			dir, material := t.TempDir(), t.TempDir()
			makeFiles(t, s, material)
			config := strings.ReplaceAll(fileBlocks(document(t, "clients/terraform.md"))["main.tf"], "https://localhost:8443", s.get("AWS_ENDPOINT_URL"))
			if name != "page" {
				b, err := os.ReadFile(filepath.Join("terraform", name, "main.tf"))
				check(t, err)
				config = string(b)
			}
			check(t, os.WriteFile(filepath.Join(dir, "main.tf"), []byte(config), 0o600))
			check(t, os.WriteFile(filepath.Join(dir, "none.tfrc"), nil, 0o600))
			env := []string{"CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_CLI_CONFIG_FILE=" + filepath.Join(dir, "none.tfrc"), "TF_VAR_endpoint=" + s.get("AWS_ENDPOINT_URL"),
				"TF_VAR_csr=" + filepath.Join(material, "device.csr"), "TF_VAR_ca=" + filepath.Join(material, "ca.pem"), "TF_VAR_zip=" + filepath.Join(material, "hook.zip")}
			terraform := func(args ...string) string { return s.run(t, dir, env, "terraform", append(args, "-no-color")...) }
			terraform("init", "-plugin-dir", mirror)
			steps := []string{"false", "true", "false"}
			if name == "page" {
				steps = steps[:1]
			}
			for _, changed := range steps {
				set := []string{}
				if name != "page" {
					set = []string{"-var", "changed=" + changed}
				}
				terraform(append([]string{"apply", "-auto-approve", "-input=false"}, set...)...)
				out, err := s.try(t, dir, env, "terraform", append([]string{"plan", "-detailed-exitcode", "-input=false", "-no-color"}, set...)...)
				if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 2 {
					t.Errorf("with changed=%s a plan after an apply finds differences:\n%s", changed, out)
				} else {
					check(t, err)
				}
			}
			terraform("destroy", "-auto-approve", "-input=false")
		})
	}
}

// makeFiles makes what the configurations read: a CSR, a CA and the code of a function.
func makeFiles(t *testing.T, s *site, dir string) {
	t.Helper()
	const key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
	openssl := func(args string) { s.run(t, dir, nil, "openssl", strings.Fields(args)...) }
	openssl("req -new " + key + "-subj /CN=device -out device.csr")
	openssl("req -x509 " + key + "-subj /CN=Own -days 100 -addext basicConstraints=critical,CA:TRUE -out ca.pem")
	check(t, os.WriteFile(filepath.Join(dir, "index.py"), []byte("def handler(event, context):\n    return event\n"), 0o600))
	s.run(t, dir, nil, "python3", "-m", "zipfile", "-c", "hook.zip", "index.py")
}
