// Command awsgen writes the request and response structs of the AWS services that Imprint speaks, with the tables that
// the codec in internal/wire needs, into internal/api/<service>/model.gen.go.
//
//	go run ./internal/tools/awsgen          write the files
//	go run ./internal/tools/awsgen -check   compare only; exits 1 and names the file that is stale
//
// Its sources are the public service models that ship inside the Go module github.com/aws/aws-sdk-go (Apache-2.0), pinned
// below and read from the module cache, and the overlays beside this file: JSON in the same grammar with the operations and
// members that are newer than the pinned models, and with facts that the models leave out. The module is no dependency of
// the product: it is downloaded by itself, checked against the hash below, and never imported.
//
// Begin with model.go (the grammar and how an overlay is merged), then emit.go (what is written).
package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	sourceModule  = "github.com/aws/aws-sdk-go"
	sourceVersion = "v1.55.8"
	sourceSum     = "h1:JRmEUbU52aJQZ2AjX4q4Wu7t4uZjOu71uyNmaWlUkJQ="
	sourceLicence = "Apache-2.0"
)

// services lists what is generated: the model's folder and the package under internal/api.
var services = []struct{ model, version, pkg string }{
	{"iot", "2015-05-28", "iot"},
	{"iot-data", "2015-05-28", "iotdata"},
	{"cognito-idp", "2016-04-18", "cognitoidp"},
	{"cognito-identity", "2014-06-30", "cognitoidentity"},
	{"sts", "2011-06-15", "sts"},
	{"iam", "2010-05-08", "iam"},
	{"lambda", "2015-03-31", "lambda"},
}

//go:embed overlay/*.json
var overlays embed.FS

func main() {
	root := flag.String("root", ".", "folder that holds internal/api")
	check := flag.Bool("check", false, "compare with what is there instead of writing")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "awsgen:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	dir, err := download()
	if err != nil {
		return err
	}
	for _, s := range services {
		source, err := os.ReadFile(filepath.Join(dir, "models/apis", s.model, s.version, "api-2.json"))
		if err != nil {
			return err
		}
		overlay, err := overlays.ReadFile("overlay/" + s.model + ".json")
		if err != nil {
			return err
		}
		out, err := generate(s.pkg, source, overlay)
		if err != nil {
			return fmt.Errorf("%s: %w", s.model, err)
		}
		path := filepath.Join(root, "internal/api", s.pkg, "model.gen.go")
		if check {
			if have, _ := os.ReadFile(path); !bytes.Equal(have, out) {
				return fmt.Errorf("%s is stale: run `go run ./internal/tools/awsgen`", path)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, out, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate turns a model and its overlay into the Go file of package pkg.
func generate(pkg string, source, overlay []byte) ([]byte, error) {
	m, err := parseModel(source, overlay)
	if err != nil {
		return nil, err
	}
	return m.emit(pkg)
}

// download returns the folder of the pinned module in the module cache, fetching it if needed.
func download() (string, error) {
	tmp, err := os.MkdirTemp("", "awsgen")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("go", "mod", "download", "-json", sourceModule+"@"+sourceVersion)
	cmd.Dir = tmp // outside of any module: go.mod of the product stays as it is
	out, err := cmd.Output()
	var got struct{ Dir, Sum, Error string }
	if jerr := json.Unmarshal(out, &got); jerr != nil || err != nil {
		return "", fmt.Errorf("go mod download %s@%s: %w %s", sourceModule, sourceVersion, errors.Join(err, jerr), got.Error)
	}
	if got.Sum != sourceSum {
		return "", fmt.Errorf("%s@%s has hash %s, want %s", sourceModule, sourceVersion, got.Sum, sourceSum)
	}
	return got.Dir, nil
}
