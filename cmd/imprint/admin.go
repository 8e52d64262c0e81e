package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/imprint-iot/imprint/internal/server"
)

type adminCmd struct {
	CreateKey createKeyCmd `cmd:"" help:"Make an access key for the administrator of an account and print it, once."`
	Profile   profileCmd   `cmd:"" help:"Take a profile of the running server, for go tool pprof."`
}

type createKeyCmd struct {
	dataFolder
	Account string `help:"Account (default: the first)." placeholder:"ID"`
}

// Run speaks to the server's administration socket, which only the owner of the data folder can open: the first key can't be
// asked for with a key (docs/decisions/0002-administration-socket.md).
func (c *createKeyCmd) Run(ctx context.Context) error {
	key, err := server.CreateAdminKey(ctx, c.Data, c.Account)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no server runs on %s: start it, or name its folder with --data", c.Data)
	}
	if err != nil {
		return err
	}
	fmt.Printf("AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n", key.ID, key.Secret.Reveal())
	return nil
}

type profileCmd struct {
	dataFolder
	Kind    string `arg:"" help:"What of (cpu, heap, allocs, goroutine)." default:"cpu" enum:"cpu,heap,allocs,goroutine"`
	Seconds int    `help:"How long, for cpu." default:"30" placeholder:"N"`
}

// Run writes the profile to standard output.
func (c *profileCmd) Run(ctx context.Context) error {
	err := server.Profile(ctx, c.Data, c.Kind, c.Seconds, os.Stdout)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no server runs on %s: start it, or name its folder with --data", c.Data)
	}
	return err
}

type accountCmd struct {
	Create accountCreateCmd `cmd:"" help:"Make an account and print the key of its administrator, once."`
	List   accountListCmd   `cmd:"" help:"List the accounts."`
}

type accountCreateCmd struct {
	place
	Name string `arg:"" help:"What to call it."`
	ID   string `help:"12 digits (default: drawn at random)." placeholder:"ID"`
}

func (c *accountCreateCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]string{"name": c.Name}
	if c.ID != "" {
		in["accountId"] = c.ID
	}
	var out struct{ AccountID, AccessKeyID, SecretAccessKey string }
	if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/accounts", in, &out); err != nil {
		return err
	}
	fmt.Printf("ACCOUNT=%s\nAWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n", out.AccountID, out.AccessKeyID, out.SecretAccessKey)
	return nil
}

type accountListCmd struct{ place }

func (c *accountListCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Accounts []struct{ AccountID, Name string }
	}
	if err := cl.REST(ctx, "imprint", http.MethodGet, "/imprint/accounts", nil, &out); err != nil {
		return err
	}
	for _, a := range out.Accounts {
		fmt.Printf("%s  %s\n", a.AccountID, a.Name)
	}
	return nil
}
