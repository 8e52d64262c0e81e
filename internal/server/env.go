package server

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/imprint-iot/imprint/internal/durable"
)

// A Var is one line of the environment file.
type Var struct{ Name, Value string }

// An Env is what a client needs to know of a server, in the order in which it is written. People script against these names:
// they don't change.
type Env []Var

// Get returns the value of a name, "" if it is not there.
func (e Env) Get(name string) string {
	for _, v := range e {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// WriteFile writes the variables as KEY=VALUE lines to a file that only the owner can read. A reader never sees half of it.
func (e Env) WriteFile(path string) error {
	var b strings.Builder
	for _, v := range e {
		fmt.Fprintf(&b, "%s=%s\n", v.Name, v.Value)
	}
	if err := durable.KeepFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("writing the environment file: %w", err)
	}
	return nil
}

// ReadEnv reads a file that WriteFile wrote.
func ReadEnv(path string) (Env, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var e Env
	for lines := bufio.NewScanner(io.LimitReader(f, 64<<10)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			e = append(e, Var{name, value})
		}
	}
	return e, nil
}

// EnvNames are the variables of the environment file, in order.
var EnvNames = []string{"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE",
	"IOT_ENDPOINT", "IOT_PORT", "IOT_ALPN_PORT", "IOT_WSS_PORT"}

// RootsFile is where in the data folder the root certificates stand: what `imprint ca` prints and AWS_CA_BUNDLE names.
const RootsFile = "ca.pem"

// AWSNamesRootsFile has the root for host names of AWS, if the setting aws-names is on: what `imprint ca --aws-names` prints.
const AWSNamesRootsFile = "aws-names-ca.pem"

// EnvFile is where in the data folder the environment file stands.
const EnvFile = "imprint.env"
