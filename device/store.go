package device

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// A Store keeps a device's identity, and what is known of one in the making, in a folder that only its user may enter:
//
//	slot            "a" or "b": where the identity in use is
//	a/, b/          certificate.pem, private.key, ca.pem, config.json, identity.json
//	current         a symbolic link to a or b, where the file system has such links; a convenience, slot is what counts
//	claim.json      the claim, until it has been used
//	journal.json    how far the provisioning under way has come
//	lock            held while one process provisions
//
// A new identity is put together in the slot that is not in use; only when it has connected does slot point to it, by one atomic
// rename, and the old one is erased. So there is a working identity at every moment, whenever the power fails. Make a Store with
// OpenStore.
type Store struct {
	dir string
	fs  fileSystem
}

const (
	fileSlot    = "slot"
	fileLink    = "current"
	fileClaim   = "claim.json"
	fileJournal = "journal.json"
	fileLock    = "lock"
)

// OpenStore opens the store in dir. Nothing is created before Provision needs it; what is there must be closed to other users.
func OpenStore(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, storage(err, "cannot find %s", dir)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	s := &Store{dir: abs, fs: osFiles{}}
	return s, s.check()
}

// check refuses a folder that others can enter. It does not mend it: the folder may be somebody else's.
func (s *Store) check() error {
	mode, err := s.fs.Mode(s.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return storage(err, "cannot open %s", s.dir)
	case !mode.IsDir():
		return storage(nil, "%s is no folder", s.dir)
	case mode.Perm()&0o077 != 0:
		return &Error{Kind: KindStorage, Code: CodePermissions, Message: "other users can enter " + s.dir,
			Cure: "chmod 700 " + s.dir + " if it is meant for this; a file system without owners needs the mount option umask=077"}
	}
	return nil
}

// Dir returns the store's folder as an absolute path.
func (s *Store) Dir() string { return s.dir }

// ensure makes the folders. Those of the slots become durable with the first file of a provisioning.
func (s *Store) ensure() error {
	if err := s.ensureAbove(filepath.Dir(s.dir)); err != nil {
		return storage(err, "cannot make the folder above %s", s.dir)
	}
	made := false
	for _, dir := range []string{s.dir, s.path("a"), s.path("b")} {
		err := s.fs.Mkdir(dir, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return storage(err, "cannot make the folder %s", dir)
		}
		made = made || err == nil
	}
	if made {
		if err := s.fs.SyncDir(filepath.Dir(s.dir)); err != nil && !errors.Is(err, fs.ErrPermission) { // we may not be allowed to list it
			s.fs.Remove(s.path("b")) // so that the next call tries again
			return storage(err, "cannot sync the folder above %s", s.dir)
		}
	}
	return s.check()
}

// ensureAbove makes a folder that the store's is to be in, and those above it. They are durable, or gone so that the next call
// tries again.
func (s *Store) ensureAbove(dir string) error {
	if _, err := s.fs.Mode(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(dir)
	if err := s.ensureAbove(above); err != nil {
		return err
	}
	if err := s.fs.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.fs.SyncDir(above); err != nil && !errors.Is(err, fs.ErrPermission) { // we may not be allowed to list it
		return errors.Join(err, s.fs.Remove(dir))
	}
	return nil
}

// write replaces files of one folder ("." or a slot), each as a whole. When it returns nil they are durable.
func (s *Store) write(dir string, files ...newFile) error {
	for _, f := range files {
		if err := writeFile(s.fs, s.path(dir, f.name), f.data); err != nil {
			return storage(err, "cannot write %s", s.path(dir, f.name))
		}
	}
	if err := s.fs.SyncDir(s.path(dir)); err != nil {
		return storage(err, "cannot sync %s", s.path(dir))
	}
	return nil
}

type newFile struct {
	name string
	data []byte
}

func (s *Store) lock() (unlock func(), err error) {
	unlock, err = s.fs.Lock(s.path(fileLock))
	if errors.Is(err, errBusy) {
		return nil, &Error{Kind: KindStorage, Code: CodeBusy, Message: "another process provisions in " + s.dir, Cure: "wait for it to end"}
	}
	if err != nil {
		return nil, storage(err, "cannot lock %s", s.dir)
	}
	return unlock, nil
}

// Identity reads the identity in use. The error is of KindNotProvisioned if there is none.
func (s *Store) Identity() (*Identity, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	slot, err := s.current()
	if err != nil {
		return nil, err
	}
	if slot == "" {
		return nil, &Error{Kind: KindNotProvisioned, Code: CodeNotProvisioned, Message: "this device has no identity yet",
			Cure: "imprint-device provision --claim FILE"}
	}
	id, err := s.load(slot)
	if err != nil {
		return nil, storage(err, "cannot read the identity in %s", s.path(slot))
	}
	return id, nil
}

// current returns the slot in use, "" if there is none. If the pointer is damaged, which takes a file system without atomic
// renames, the slots themselves tell: the newest whole one that no journal is still working on.
func (s *Store) current() (string, error) {
	b, err := s.fs.ReadFile(s.path(fileSlot))
	if slot := strings.TrimSpace(string(b)); err == nil && (slot == "a" || slot == "b") {
		return slot, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", storage(err, "cannot read %s", s.path(fileSlot))
	}
	best, generation := "", 0
	j := s.journal()
	for _, slot := range []string{"a", "b"} {
		if id, err := s.load(slot); err == nil && id.Generation > generation && (j == nil || j.Slot != slot) {
			best, generation = slot, id.Generation
		}
	}
	return best, nil
}

func other(slot string) string {
	if slot == "a" {
		return "b"
	}
	return "a"
}

// A step is how far a provisioning has come. Each is durable before the next thing is sent.
type step string

const (
	stepClaimed    step = "claimed"    // the claim is stored
	stepKeyed      step = "keyed"      // key and CSR are stored: a repeated CSR finds its certificate
	stepIssued     step = "issued"     // certificate and ownership token are stored
	stepRegistered step = "registered" // the service's answer is stored; what is left is to connect
)

// A journal is a provisioning under way. It holds no private key; the claim and the new key have files of their own, which are
// written once so that they can be erased.
type journal struct {
	Step        step      `json:"step"`
	Slot        string    `json:"slot"` // where the new identity grows
	ClaimID     string    `json:"claimId"`
	Renews      string    `json:"renews,omitempty"`  // certificate id of the identity that asks, if no claim does
	Refused     int       `json:"refused,omitempty"` // how often the service did not accept the new certificate of a renewal
	ClaimEnds   time.Time `json:"claimEnds"`
	Started     time.Time `json:"started"`
	Generation  int       `json:"generation"`
	Settings    settings  `json:"settings"`
	CSR         string    `json:"csr,omitempty"`
	Certificate string    `json:"certificate,omitempty"`
	ID          string    `json:"certificateId,omitempty"`
	Token       string    `json:"token,omitempty"`
	ThingName   string    `json:"thingName,omitempty"`

	Configuration map[string]string `json:"configuration,omitempty"`
	AnswerLost    bool              `json:"answerLost,omitempty"`
}

// journal reads the journal; nil if there is none, or none that can be read: then a claim starts anew.
func (s *Store) journal() *journal {
	j := new(journal)
	if s.readJSON(s.path(fileJournal), j) != nil || j.Slot != "a" && j.Slot != "b" {
		return nil
	}
	return j
}

// saveJournal writes the journal, and with it the claim if one is given.
func (s *Store) saveJournal(j *journal, c *Claim) error {
	var files []newFile
	if c != nil {
		b, err := c.marshal()
		if err != nil {
			return err
		}
		files = append(files, newFile{fileClaim, b})
	}
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return s.write(".", append(files, newFile{fileJournal, b})...)
}

// storedClaim returns the claim of a provisioning under way, nil if there is none any more.
func (s *Store) storedClaim() *Claim {
	b, err := s.fs.ReadFile(s.path(fileClaim))
	if err != nil {
		return nil
	}
	c, err := ParseClaim(b)
	if err != nil {
		return nil
	}
	return c
}

// tidy finishes what a power cut left: files half written, the end of a commit, keys that nothing refers to.
func (s *Store) tidy(current string, j *journal) error {
	for _, dir := range []string{".", "a", "b"} {
		names, err := s.fs.ReadDir(s.path(dir))
		if err != nil {
			return storage(err, "cannot list %s", s.path(dir))
		}
		for _, n := range names {
			if strings.HasSuffix(n, tmpSuffix) {
				if err := eraseFile(s.fs, s.path(dir, n)); err != nil {
					return storage(err, "cannot erase %s", s.path(dir, n))
				}
			}
		}
	}
	if j != nil && j.Slot != current {
		return nil
	}
	return s.finish(current)
}

// commit makes the identity in slot the one in use.
func (s *Store) commit(slot string) error {
	if err := s.write(".", newFile{fileSlot, []byte(slot + "\n")}); err != nil {
		return err
	}
	return s.finish(slot)
}

// finish removes everything but the identity in slot (all identities if it is ""): link, old identity, claim, and last of all
// the journal.
func (s *Store) finish(slot string) error {
	relinked := slot != "" && s.link(slot)
	for _, old := range []string{"a", "b"} {
		if old == slot {
			continue
		}
		if err := s.clearSlot(old, ""); err != nil {
			return err
		}
	}
	if err := eraseFile(s.fs, s.path(fileClaim)); err != nil {
		return storage(err, "cannot erase %s", s.path(fileClaim))
	}
	_, err := s.fs.Mode(s.path(fileJournal))
	if err != nil && !relinked {
		return nil
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return storage(err, "cannot sync %s", s.dir)
	}
	// The journal goes last, and unsynced: if it comes back after a cut, all this is done again.
	if err := s.fs.Remove(s.path(fileJournal)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage(err, "cannot remove %s", s.path(fileJournal))
	}
	return nil
}

// link points the symbolic link at slot, if it does not yet and there are such links. It is a convenience: a failure is none.
func (s *Store) link(slot string) (changed bool) {
	if target, err := s.fs.Readlink(s.path(fileLink)); err == nil && target == slot {
		return false
	}
	tmp := s.path(fileLink + tmpSuffix)
	s.fs.Remove(tmp)
	return s.fs.Symlink(slot, tmp) == nil && s.fs.Rename(tmp, s.path(fileLink)) == nil
}

// clearSlot erases a slot's key and removes its other files, except the one to keep. Nothing is synced but the zeros over the
// key: names that come back after a cut stand for nothing, since no pointer leads to them.
func (s *Store) clearSlot(slot, keep string) error {
	names, err := s.fs.ReadDir(s.path(slot))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage(err, "cannot list %s", s.path(slot))
	}
	for _, n := range names {
		remove := s.fs.Remove
		if n == fileKey {
			remove = func(name string) error { return eraseFile(s.fs, name) }
		}
		if n == keep {
			continue
		}
		if err := remove(s.path(slot, n)); err != nil {
			return storage(err, "cannot remove %s", s.path(slot, n))
		}
	}
	return nil
}

// Reset erases the identity and everything else in the store. The service still knows the device.
func (s *Store) Reset() error {
	if _, err := s.fs.Mode(s.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := s.ensure(); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// The pointer first, for good: a reset that is cut short must not leave it pointing at half an identity.
	for _, name := range []string{fileSlot, fileLink} {
		if err := s.fs.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storage(err, "cannot remove %s", s.path(name))
		}
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return storage(err, "cannot sync %s", s.dir)
	}
	return s.finish("") // what comes back after a cut holds no key any more
}

// ConfigurationApplied reports whether MarkConfigurationApplied was called for this identity.
func (s *Store) ConfigurationApplied(id *Identity) bool {
	of, err := s.fs.ReadFile(s.path(id.slot, fileApplied))
	return err == nil && (len(of) == 0 || string(of) == id.CertificateID) // earlier releases did not say whose it was
}

// MarkConfigurationApplied remembers that whoever wanted the device configuration of id has had it.
func (s *Store) MarkConfigurationApplied(id *Identity) error {
	return s.write(id.slot, newFile{fileApplied, []byte(id.CertificateID)}) // the slot may be another identity's by now
}

// A Status tells what is in a store.
type Status struct {
	Identity *Identity // in use; nil if there is none
	Pending  *Pending  // nil if nothing is under way
}

// A Pending is a provisioning or a renewal that was begun and has not ended.
type Pending struct {
	Step      string // claimed, keyed, issued, registered
	Renewal   bool   // of the identity in use, by its own certificate
	Template  string
	ClaimID   string
	ClaimEnds time.Time
	ClaimKept bool // false: the claim has expired and was erased, a new one is needed unless the step is registered or it is a renewal
	Started   time.Time
}

// Status looks at the store without changing it.
func (s *Store) Status() (Status, error) {
	var st Status
	id, err := s.Identity()
	if err != nil && KindOf(err) != KindNotProvisioned {
		return st, err
	}
	st.Identity = id
	if j := s.journal(); j != nil && (id == nil || j.Slot != id.slot) {
		_, err := s.fs.Mode(s.path(fileClaim))
		st.Pending = &Pending{Step: string(j.Step), Renewal: j.Renews != "", Template: j.Settings.Template, ClaimID: j.ClaimID, ClaimEnds: j.ClaimEnds,
			ClaimKept: err == nil, Started: j.Started}
	}
	return st, nil
}
