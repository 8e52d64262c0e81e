package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/server"
)

type backupCmd struct {
	dataFolder
	server.DatabaseURL
	To string `arg:"" help:"New file, or a folder that is there, or - for standard output." type:"path" placeholder:"FILE"`
}

// Run writes the backup. A file appears when it is complete, checked and durable.
func (c *backupCmd) Run(ctx context.Context) error {
	var m server.BackupManifest
	write := func(w io.Writer) (err error) {
		m, err = server.Backup(ctx, c.Data, c.DatabaseURL, w)
		return err
	}
	if c.To == "-" {
		return write(os.Stdout)
	}
	path := c.To
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "imprint-"+time.Now().UTC().Format("20060102T150405Z")+".tar")
	}
	err := durable.CreateFrom(path, 0o600, write)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already: name a new file", path)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s holds %d files. Whoever has it has the installation: keep it as safe as the data folder.\n", path, len(m.Files))
	sayWhatIsMissing(m)
	return nil
}

func sayWhatIsMissing(m server.BackupManifest) {
	if !m.MasterKey {
		fmt.Println("The master key is not in it: keep a copy of where it comes from, of this time.")
	}
	if m.Database == "postgresql" {
		fmt.Println("The data are in PostgreSQL and not in it: pg_dump saves them.")
	}
}

type restoreCmd struct {
	dataFolder
	From string `arg:"" help:"The backup, or - for standard input." type:"path" placeholder:"FILE"`
}

// Run makes a data folder.
func (c *restoreCmd) Run(ctx context.Context) error {
	in := os.Stdin
	if c.From != "-" {
		var err error
		if in, err = os.Open(c.From); err != nil {
			return err
		}
		defer in.Close()
	}
	m, err := server.Restore(ctx, in, c.Data)
	if err != nil {
		return err
	}
	fmt.Printf("%s is as it was on %s, checked. Start it with: imprint serve --data %[1]s\n", c.Data, m.Made.Local().Format(time.RFC1123))
	sayWhatIsMissing(m)
	return nil
}
