package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/imprint-iot/imprint/internal/server"
)

type envCmd struct {
	place
	Region string `help:"Region to work in, of those that the server is (default: its first)." placeholder:"REGION"`
}

func (c *envCmd) Run() error {
	e, err := server.ReadEnv(c.path())
	if err != nil {
		return fmt.Errorf("reading the server's environment (is it running, and on loopback?): %w", err)
	}
	for _, v := range withDefaultRegion(e) {
		if strings.HasSuffix(v.Name, "_REGION") {
			v.Value = cmp.Or(c.Region, v.Value)
		}
		fmt.Printf("export %s='%s'\n", v.Name, strings.ReplaceAll(v.Value, "'", `'\''`))
	}
	return nil
}

// withDefaultRegion names the region a second time: boto3 and older AWS CLIs read only AWS_DEFAULT_REGION.
func withDefaultRegion(e server.Env) server.Env {
	return append(e, server.Var{Name: "AWS_DEFAULT_REGION", Value: e.Get("AWS_REGION")})
}

type awsCmd struct {
	Args []string `arg:"" optional:""`
}

// Run starts the AWS CLI with the endpoint as a flag: versions before 2.13 ignore AWS_ENDPOINT_URL and would talk to AWS.
// The flags of our own place can't be told from the CLI's, so IMPRINT_DATA or a configuration file
// names another folder.
func (c *awsCmd) Run(ctx context.Context, k *kong.Context, from *sources) error {
	if err := from.load(k); err != nil {
		return err
	}
	p := place{dataFolder: dataFolder{from.data()}}
	e, err := p.env()
	if err != nil {
		return err
	}
	bin, err := exec.LookPath("aws")
	if err != nil {
		return errors.New("the AWS CLI is not installed (Debian and Ubuntu: apt-get install awscli)")
	}
	args := append([]string{"--endpoint-url", e.Get("AWS_ENDPOINT_URL"), "--region", e.Get("AWS_REGION")}, c.Args...)
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(withoutAWS(os.Environ()), "AWS_PAGER=")
	for _, v := range withDefaultRegion(e) {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() < 0 {
		return err
	}
	return saidAlready(exit.ExitCode())
}

// saidAlready is the exit code of a command that has told its error itself.
type saidAlready int

func (s saidAlready) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// withoutAWS drops the AWS_ variables, so that no profile or session of the real AWS mixes with ours.
func withoutAWS(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "AWS_") })
}
