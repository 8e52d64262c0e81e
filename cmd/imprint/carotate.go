package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/imprint-iot/imprint/internal/server"
)

type caCmd struct {
	Print       caPrintCmd   `cmd:"" default:"withargs" help:"Print the root certificates that devices and clients must trust."`
	List        caListCmd    `cmd:"" help:"List all roots and issuers with their state."`
	Rotate      caRotateCmd  `cmd:"" help:"Replace roots and issuers: begin, later --finish, later --drop-old."`
	TakeOffline caOfflineCmd `cmd:"" help:"Move the private keys of the roots out of the data folder."`
	BringBack   caRestoreCmd `cmd:"" help:"Put the private keys of the roots back into the data folder."`
}

// caPrintCmd reads the file that serve writes: it needs no running server.
type caPrintCmd struct {
	place
	AWSNames bool `name:"aws-names" help:"The root for host names of AWS instead (setting aws-names). Whoever trusts it takes this server for AWS."`
}

func (c *caPrintCmd) Run() error {
	file := server.RootsFile
	if c.AWSNames {
		file = server.AWSNamesRootsFile
	}
	b, err := os.ReadFile(filepath.Join(c.Data, file))
	if c.AWSNames && errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no root for host names of AWS: the service does not answer for them (imprint serve --aws-names): %w", err)
	}
	if err != nil {
		return fmt.Errorf("reading the roots: %w", err)
	}
	_, err = os.Stdout.Write(b)
	return err
}

type caListCmd struct{ dataFolder }

func (c *caListCmd) Run(ctx context.Context) error {
	r, err := server.ChangeRoots(ctx, c.Data, server.RootsRequest{Action: server.ListRoots})
	if err != nil {
		return err
	}
	return printCAs(r)
}

func printCAs(r server.RootsReport) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROLE\tSTATE\tKEY\tUNTIL\tSHA-256\tSUBJECT")
	for _, c := range r.CAs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s…\t%s\n", c.Role, c.State, c.Key, c.NotAfter.Format("2006-01-02"), c.Fingerprint[:16], c.Subject)
	}
	return w.Flush()
}

type caRotateCmd struct {
	dataFolder
	Finish  bool   `help:"Put the new roots to use, when every device has learnt them: a client that trusts the old ones alone can't connect any more." xor:"step"`
	DropOld bool   `help:"Stop handing out the old roots, after --finish." xor:"step"`
	Issuers bool   `help:"Only new issuers, under the same roots, in use at once; devices need learn nothing." xor:"step"`
	Roots   string `help:"With --issuers: the file with the keys of the roots, if they are offline." type:"path" placeholder:"FILE"`
}

func (c *caRotateCmd) Run(ctx context.Context) error {
	q := server.RootsRequest{Action: server.RotateRoots}
	switch {
	case c.Finish:
		q.Action = server.FinishRoots
	case c.DropOld:
		q.Action = server.DropRoots
	case c.Issuers:
		q.Action = server.NewIssuers
	}
	if c.Roots != "" {
		if !c.Issuers {
			return errors.New("--roots goes with --issuers: new roots need no key of the old ones")
		}
		keys, err := server.ReadRootsFile(c.Roots)
		if err != nil {
			return err
		}
		q.Keys = keys.Reveal()
	}
	r, err := server.ChangeRoots(ctx, c.Data, q)
	if err != nil {
		if c.Issuers && c.Roots == "" && strings.Contains(err.Error(), "key is missing") {
			return fmt.Errorf("the keys of the roots are offline: name their file with --roots (%w)", err)
		}
		return err
	}
	fmt.Println(rotated(c, r))
	return printCAs(r)
}

// rotated says what happened and what comes next.
func rotated(c *caRotateCmd, r server.RootsReport) string {
	switch {
	case c.Finish:
		return "The new roots are in use. Clients that trust the old roots alone can't connect any more. When you like: imprint ca rotate --drop-old"
	case c.DropOld && r.Dropped == 0:
		return "There is no old root to drop."
	case c.DropOld:
		return fmt.Sprintf("%d old roots are no longer handed out; %s holds the new ones alone.", r.Dropped, r.File)
	case c.Issuers:
		return "New issuers are in use. Certificates of devices stay valid."
	case r.Begun:
		return fmt.Sprintf("New roots stand beside the old ones and are not in use yet. Give %s to devices and clients; when all have it: imprint ca rotate --finish", r.File)
	default:
		return fmt.Sprintf("A rotation is under way already. Give %s to devices and clients; when all have it: imprint ca rotate --finish", r.File)
	}
}

type caOfflineCmd struct {
	dataFolder
	Out string `help:"New file for the keys, for example on a removable medium. They stand in it unencrypted: encrypt the medium or the file." type:"path" required:"" placeholder:"FILE"`
}

func (c *caOfflineCmd) Run(ctx context.Context) error {
	r, err := server.TakeRootsOffline(ctx, c.Data, c.Out)
	if err != nil {
		return err
	}
	fmt.Printf("Moved to %s: %s. Make a second copy: new issuers need it. The issuers go on without.\n", c.Out, strings.Join(r.Names, ", "))
	return nil
}

type caRestoreCmd struct {
	dataFolder
	File string `arg:"" help:"What take-offline wrote." type:"path"`
}

func (c *caRestoreCmd) Run(ctx context.Context) error {
	keys, err := server.ReadRootsFile(c.File)
	if err != nil {
		return err
	}
	r, err := server.ChangeRoots(ctx, c.Data, server.RootsRequest{Action: server.RestoreRoots, Keys: keys.Reveal()})
	if err != nil {
		return err
	}
	if len(r.Names) == 0 {
		fmt.Println("They were there already.")
		return nil
	}
	fmt.Printf("Put back: %s.\n", strings.Join(r.Names, ", "))
	return nil
}
