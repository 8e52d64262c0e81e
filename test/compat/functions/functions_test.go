// Package functions runs handlers that were written for AWS Lambda with the libraries of AWS, unmodified.
package functions

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/function"
)

func TestMain(m *testing.M) {
	function.Main()
	os.Exit(m.Run())
}

func TestAHandlerBuiltWithAWSsLibraryForGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bootstrap"), "./handler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	r := function.New(function.Config{})
	t.Cleanup(r.Close)
	code := function.Code{Name: "check", ARN: "arn:aws:lambda:us-east-1:000000000000:function:check", Dir: dir, Runtime: "provided.al2023", Handler: "bootstrap", Timeout: 2 * time.Minute}
	for _, step := range []struct{ serial, want, fails string }{
		{"4711", `{"allowProvisioning":true,"parameterOverrides":{"Room":"7"}}`, ""},
		{"4712", `{"allowProvisioning":false,"parameterOverrides":null}`, ""},
		{"raise", `{"errorMessage":"no such list","errorType":"errorString"}`, "Unhandled"},
		{"panic", `{"errorMessage":"boom","errorType":"string",`, "Unhandled"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		res, err := r.Invoke(ctx, code, []byte(`{"claimCertificateId":"c","certificateId":"d","certificatePem":"p","templateArn":"t","clientId":"i","parameters":{"SerialNumber":"`+step.serial+`"}}`))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(res.Payload), step.want) || res.FunctionError != step.fails {
			t.Errorf("%s: %q %s\n%s", step.serial, res.FunctionError, res.Payload, res.Log)
		}
		if want := "request " + res.RequestID + " of check\n"; !strings.Contains(string(res.Log), want) {
			t.Errorf("%s: %s\nhas no %q", step.serial, res.Log, want)
		}
	}
}
