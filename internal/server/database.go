package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

const (
	databaseFile       = "imprint.db"       // SQLite
	databaseIDFile     = "database.id"      // in a folder whose data are in PostgreSQL: which database that is
	databaseIDSetting  = "installation"     // the same, in the database
	databaseCredential = "imprint-database" // name of the systemd credential
)

// DatabaseURL says where the data are; by default in a SQLite file in the data folder, which holds keys and certificates in any case.
type DatabaseURL struct {
	Database string `secret:"" help:"PostgreSQL database in place of a file in the data folder, postgres://USER:PASSWORD@HOST/NAME." placeholder:"URL"`
}

// url returns the setting, else the systemd credential "imprint-database", else "".
func (d DatabaseURL) url() (string, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if d.Database != "" || dir == "" {
		return d.Database, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, databaseCredential))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("database from systemd: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// open opens the store of a data folder. Folder and database belong together from the first start on: half of one
// installation with half of another would be an installation that has lost its devices.
func (d DatabaseURL) open(ctx context.Context, dir string, cfg store.Config) (*store.DB, error) {
	url, err := d.url()
	if err != nil {
		return nil, err
	}
	id, err := os.ReadFile(filepath.Join(dir, databaseIDFile))
	bound := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cfg.Path = filepath.Join(dir, databaseFile)
	if url == "" {
		if bound {
			return nil, fmt.Errorf("the data of %s are in a PostgreSQL database: name it with --database (IMPRINT_DATABASE) as at earlier starts", dir)
		}
		if err := makePrivate(cfg.Path); err != nil {
			return nil, fmt.Errorf("opening store: %w", err)
		}
		return store.Open(ctx, cfg)
	}
	if _, err := os.Stat(cfg.Path); err == nil {
		return nil, fmt.Errorf("the data of %s are in %s: start without --database (IMPRINT_DATABASE), or with another --data", dir, databaseFile)
	}
	cfg.URL, cfg.Alone = url, true
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := bind(ctx, db, dir, strings.TrimSpace(string(id))); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// bind makes folder and database know each other, or checks that they do. id is that of the folder, "" if it has none.
func bind(ctx context.Context, db *store.DB, dir, id string) error {
	var in string
	if err := db.View(ctx, func(tx *store.Tx) (err error) {
		in, err = tx.Setting(databaseIDSetting)
		return err
	}); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(dir, pki.AuthorityDir))
	hasKeys := err == nil
	switch {
	case in != "" && in == id:
		return nil
	case in != "" && id == "":
		return fmt.Errorf("the database belongs to an installation whose keys are not in %s: name its data folder with --data, or restore it from a backup", dir)
	case in != "":
		return fmt.Errorf("the database belongs to another installation than %s: check --database and --data", dir)
	case hasKeys:
		return fmt.Errorf("the database is empty, but %s has the keys of an installation: check --database, or restore the database from a backup", dir)
	}
	// The folder comes first: if this is cut, the next start finds its id and goes on.
	if id == "" {
		id = fleet.RandomString(32, fleet.AlphaHex)
		if err := durable.WriteFile(filepath.Join(dir, databaseIDFile), []byte(id+"\n"), 0o600); err != nil {
			return err
		}
	}
	return db.Tx(ctx, func(tx *store.Tx) error { return tx.PutSetting(databaseIDSetting, id) })
}

// hasData reports whether a server has run in the folder.
func hasData(dir string) (fs.FileInfo, error) {
	info, err := os.Stat(filepath.Join(dir, databaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Join(dir, databaseIDFile))
	}
	return info, err
}
