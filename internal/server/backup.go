package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

// Backup writes a backup of a data folder to w: of the server that runs on it, while it goes on, or of a stopped one. Whatever was
// answered before the call is in it, and nothing in part. An error means that what was written is of no use.
func Backup(ctx context.Context, data string, database DatabaseURL, w io.Writer) (BackupManifest, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return BackupManifest{}, err
	}
	r, err := askForBackup(ctx, data)
	if errors.Is(err, errNoServer) {
		return backupStopped(ctx, data, database, w)
	}
	if err != nil {
		return BackupManifest{}, err
	}
	defer r.Close()
	return checkedCopy(w, r)
}

// checkedCopy copies a backup and reads it on the way.
func checkedCopy(w io.Writer, r io.Reader) (BackupManifest, error) {
	tee := io.TeeReader(r, w)
	m, err := readBackup(tee, drop)
	if err != nil {
		return m, err
	}
	_, err = io.Copy(io.Discard, tee) // the padding at the end of a tar
	return m, err
}

func askForBackup(ctx context.Context, data string) (io.ReadCloser, error) {
	path, done, err := socketPath(data)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoServer
	}
	if err != nil {
		return nil, err
	}
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://imprint/backup", nil)
	if err != nil {
		return nil, err
	}
	res, err := socketClient(path).Do(req)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) { // the socket outlives a server that was killed
		return nil, errNoServer
	}
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusNotFound {
		return nil, errors.Join(errors.New("the server that runs on this data folder is of an earlier version: start it again with this one"), res.Body.Close())
	}
	return res.Body, nil
}

func backupStopped(ctx context.Context, data string, database DatabaseURL, w io.Writer) (m BackupManifest, err error) {
	unlock, err := lockExisting(data)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	b := backuper{dir: data}
	if _, err := os.Stat(filepath.Join(data, databaseFile)); err == nil {
		if b.db, err = database.open(ctx, data, store.Config{}); err != nil {
			return m, err
		}
		defer func() { err = errors.Join(err, b.db.Close()) }()
	}
	r, out := io.Pipe()
	go func() { out.CloseWithError(b.write(ctx, out)) }()
	m, err = checkedCopy(w, r)
	return m, errors.Join(err, r.Close())
}

// serveBackup is the operation of the running server.
func (s *Server) serveBackup(w http.ResponseWriter, r *http.Request) {
	s.trust.Lock() // keys and what is sealed under them stay as they are
	defer s.trust.Unlock()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the socket's usual deadline is for questions
	b := backuper{dir: s.cfg.Data, version: s.cfg.Version}
	if s.onSQLite() {
		b.db = s.db
	}
	if err := b.write(r.Context(), w); err != nil {
		s.log.Error("making a backup", "error", err)
		return
	}
	s.log.Info("a backup was made")
}

func (s *Server) onSQLite() bool {
	_, err := os.Stat(filepath.Join(s.cfg.Data, databaseFile))
	return err == nil
}

// A backuper makes a backup of one data folder. Without db its data are in PostgreSQL.
type backuper struct {
	dir, version string
	db           *store.DB
}

const snapshotPrefix = ".snapshot-"

func (b backuper) write(ctx context.Context, w io.Writer) error {
	m := BackupManifest{Made: time.Now().UTC().Truncate(time.Second), Imprint: b.version, Database: "postgresql"}
	if b.db != nil {
		m.Database = "sqlite"
	}
	_, err := os.Stat(filepath.Join(b.dir, pki.MasterKeyFile))
	m.MasterKey = err == nil
	a := newArchiver(w, m)
	failure := b.fill(ctx, a)
	return errors.Join(failure, a.close(failure))
}

// fill adds the database first: what it refers to was there before.
func (b backuper) fill(ctx context.Context, a *archiver) error {
	if b.db != nil {
		if err := b.addDatabase(ctx, a); err != nil {
			return err
		}
	}
	names, err := folderFiles(b.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.add(name, filepath.Join(b.dir, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return nil
}

// addDatabase copies a snapshot, which lies in the data folder meanwhile.
func (b backuper) addDatabase(ctx context.Context, a *archiver) error {
	f, err := os.CreateTemp(b.dir, snapshotPrefix) // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	if err := b.db.Snapshot(ctx, f.Name()); err != nil {
		return err
	}
	return a.add(databaseFile, f.Name())
}

// removeSnapshots removes what a backup that was cut has left.
func removeSnapshots(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, snapshotPrefix+"*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// Restore makes a data folder from a backup. The folder must not be there, or be empty. It appears when everything in it has been checked and is
// durable: the list of files, the database, and that the master key opens the keys.
func Restore(ctx context.Context, r io.Reader, data string) (m BackupManifest, err error) {
	if data, err = filepath.Abs(data); err != nil {
		return m, err
	}
	if err := checkEmpty(data); err != nil {
		return m, err
	}
	parent := filepath.Dir(data)
	if err := durable.MakeDir(parent); err != nil {
		return m, err
	}
	dir, err := os.MkdirTemp(parent, "."+filepath.Base(data)+".restoring-") // 0700
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	if m, err = readBackup(r, func(name string, _ int64, r io.Reader) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := durable.MakeDir(filepath.Dir(path)); err != nil {
			return err
		}
		return durable.CreateFrom(path, 0o600, func(w io.Writer) error {
			_, err := io.Copy(w, r)
			return err
		})
	}); err != nil {
		return m, err
	}
	if err := checkRestored(ctx, dir, m); err != nil {
		return m, err
	}
	return m, durable.MoveDir(dir, data)
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: restore into a new folder, then exchange the two", dir)
	}
	return err
}

func checkRestored(ctx context.Context, dir string, m BackupManifest) error {
	if m.Database == "sqlite" {
		if err := store.CheckFile(ctx, filepath.Join(dir, databaseFile)); err != nil {
			return err
		}
	}
	if !m.MasterKey {
		return nil
	}
	key, err := pki.LoadMasterKey(ctx, pki.MasterKeyConfig{Dir: dir})
	if err != nil {
		return err
	}
	keys, err := pki.NewFileKeys(filepath.Join(dir, pki.KeysDir), key.Sealer())
	if err != nil {
		return err
	}
	return keys.Check(ctx)
}
