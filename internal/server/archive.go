package server

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
)

// A backup is a tar archive of the files of a data folder, by their names in it, and of backup.json behind them: without that, or with
// another content than it says, a backup is not complete and nobody uses it.

// A BackupManifest says what a backup holds.
type BackupManifest struct {
	Format    int       `json:"format"`
	Made      time.Time `json:"made"`
	Imprint   string    `json:"imprint"`   // version that made it
	Database  string    `json:"database"`  // sqlite: imprint.db is in it; postgresql: that has backups of its own
	MasterKey bool      `json:"masterKey"` // the file of the master key is in it

	Files map[string]BackupFile `json:"files"`
}

// A BackupFile is what a file must be.
type BackupFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

const (
	backupFormat   = 1
	manifestName   = "backup.json"
	failureName    = "failed.txt" // in place of backup.json: why a server could not go on
	maxSmallFile   = 4 << 20      // of everything but the database
	maxBackupFiles = 10000
)

// backupName is what may be in a backup: nothing leads out of the folder, and nothing hides in it.
var backupName = fleet.NewPattern(`^(` + regexp.QuoteMeta(databaseFile) + `|` + regexp.QuoteMeta(databaseIDFile) + `|master\.key|ca\.pem|imprint\.yaml|` +
	pki.AuthorityDir + `/(keys/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,100})$`)

// An archiver writes a backup.
type archiver struct {
	tar      *tar.Writer
	manifest BackupManifest
}

func newArchiver(w io.Writer, m BackupManifest) *archiver {
	m.Format, m.Files = backupFormat, map[string]BackupFile{}
	return &archiver{tar.NewWriter(w), m}
}

// add copies a file into the backup under a name of its own.
func (a *archiver) add(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := a.head(name, info.Size()); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(a.tar, sum), f, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.manifest.Files[name] = BackupFile{info.Size(), hex.EncodeToString(sum.Sum(nil))}
	return nil
}

func (a *archiver) head(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: a.manifest.Made, Format: tar.FormatPAX})
}

// close ends the backup with its manifest, or with what went wrong.
func (a *archiver) close(failure error) error {
	name, text := manifestName, []byte(nil)
	if failure != nil {
		name, text = failureName, []byte(failure.Error())
	} else {
		var err error
		if text, err = json.MarshalIndent(a.manifest, "", " "); err != nil {
			return err
		}
	}
	if err := a.head(name, int64(len(text))); err != nil {
		return err
	}
	if _, err := a.tar.Write(text); err != nil {
		return err
	}
	return a.tar.Close()
}

// readBackup gives each file of a backup to file and returns the manifest. Only if there is no error is the backup what was made.
func readBackup(r io.Reader, file func(name string, size int64, r io.Reader) error) (m BackupManifest, err error) {
	found := map[string]BackupFile{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return m, errors.New("this is no complete backup: it ends too early")
		}
		if err != nil {
			return m, fmt.Errorf("this is no complete backup: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			return m, fmt.Errorf("%q in the backup is no file", h.Name)
		}
		if h.Name == manifestName || h.Name == failureName {
			text, err := readSmall(t, h.Size)
			if err != nil {
				return m, err
			}
			if h.Name == failureName {
				return m, fmt.Errorf("the backup failed: %s", strings.ToValidUTF8(string(text), "?"))
			}
			if _, err := t.Next(); !errors.Is(err, io.EOF) {
				return m, errors.New("the backup goes on behind its end")
			}
			return checkManifest(text, found)
		}
		if _, twice := found[h.Name]; twice || !backupName.MatchString(h.Name) || len(found) >= maxBackupFiles {
			return m, fmt.Errorf("%q does not belong into a backup", h.Name)
		}
		if h.Name != databaseFile && h.Size > maxSmallFile {
			return m, fmt.Errorf("%s in the backup has %d bytes; at most %d are possible", h.Name, h.Size, maxSmallFile)
		}
		sum := sha256.New()
		if err := file(h.Name, h.Size, io.TeeReader(t, sum)); errors.Is(err, io.ErrUnexpectedEOF) {
			return m, fmt.Errorf("this is no complete backup: it ends in %s", h.Name)
		} else if err != nil {
			return m, fmt.Errorf("%s: %w", h.Name, err)
		}
		found[h.Name] = BackupFile{h.Size, hex.EncodeToString(sum.Sum(nil))}
	}
}

func readSmall(r io.Reader, size int64) ([]byte, error) {
	if size > maxSmallFile {
		return nil, errors.New("the backup's list of files is too long")
	}
	return io.ReadAll(r)
}

func checkManifest(text []byte, found map[string]BackupFile) (m BackupManifest, err error) {
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("the backup's list of files: %w", err)
	}
	if m.Format != backupFormat {
		return m, fmt.Errorf("the backup has format %d; this version knows %d", m.Format, backupFormat)
	}
	for name, f := range found {
		if m.Files[name] != f {
			return m, fmt.Errorf("%s in the backup is damaged", name)
		}
	}
	for name := range m.Files {
		if _, ok := found[name]; !ok {
			return m, fmt.Errorf("the backup lacks %s", name)
		}
	}
	if _, has := m.Files[databaseFile]; has == (m.Database != "sqlite") {
		return m, errors.New("the backup contradicts itself about its database")
	}
	return m, nil
}

// folderFiles lists what of a data folder goes into a backup beside the database.
func folderFiles(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // a temporary file of somebody else
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if name := filepath.ToSlash(rel); err == nil && d.Type().IsRegular() && name != databaseFile && backupName.MatchString(name) {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// drop is what reads a backup only to check it.
func drop(_ string, _ int64, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
