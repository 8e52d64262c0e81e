package device

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"
)

// An Identity is what a device has after provisioning: a certificate and key of its own, its name, and what the template gave
// it to know. The exported fields with a JSON name are what identity.json holds. Formatting an Identity never shows its key.
type Identity struct {
	ThingName     string    `json:"thingName"` // empty if the template makes no thing
	CertificateID string    `json:"certificateId"`
	Endpoint      string    `json:"endpoint"`
	Ports         []int     `json:"ports"`    // to be tried in order
	ClientID      string    `json:"clientId"` // to connect with: the thing's name, unless the caller chose another
	Template      string    `json:"templateName"`
	ClaimID       string    `json:"claimId"` // certificate id of the claim that it was traded for
	Provisioned   time.Time `json:"provisioned"`
	Generation    int       `json:"generation"` // 1 for the first identity of this store, +1 for each that follows
	Request       Request   `json:"request"`

	// AnswerLost: the certificate works, but power failed between the registration and its answer, and the claim expired
	// before the question could be repeated: thing name and configuration are unknown.
	AnswerLost bool `json:"answerLost,omitempty"`

	Configuration map[string]string `json:"-"` // the template's DeviceConfiguration; config.json
	Files         Files             `json:"-"`

	slot  string
	pair  tls.Certificate
	roots *x509.CertPool // nil: the system's
}

// A Request is how the certificate was asked for. A renewal asks for the next one in the same way.
type Request struct {
	Parameters map[string]string `json:"parameters,omitempty"` // for the template
	KeyType    KeyType           `json:"keyType,omitempty"`
	ServerKeys bool              `json:"serverKeys,omitempty"`
	Format     string            `json:"format,omitempty"` // JSON or CBOR
	MQTT       string            `json:"mqtt,omitempty"`   // MQTT311 or MQTT5
}

// Files are the paths of an identity's files, for programs such as mosquitto_pub. They stay valid until the next provisioning.
type Files struct {
	Certificate   string `json:"certificate"`  // PEM
	PrivateKey    string `json:"privateKey"`   // PEM, mode 0600
	CA            string `json:"ca,omitempty"` // PEM; empty if the system's roots are trusted
	Configuration string `json:"config"`       // JSON object of strings
	Identity      string `json:"identity"`     // JSON object, see Identity
}

// Certificate returns the certificate with its key, for connections of the caller's own.
func (id *Identity) Certificate() tls.Certificate { return id.pair }

// Roots returns the roots that the device trusts, nil for the system's.
func (id *Identity) Roots() *x509.CertPool { return id.roots }

// String, GoString and LogValue name the identity without its key.
func (id *Identity) String() string {
	if id.ThingName != "" {
		return id.ThingName
	}
	return id.CertificateID
}
func (id *Identity) GoString() string     { return "identity " + id.String() }
func (id *Identity) LogValue() slog.Value { return slog.StringValue(id.String()) }

// Names of an identity's files within its slot.
const (
	fileCertificate = "certificate.pem"
	fileKey         = "private.key"
	fileCA          = "ca.pem"
	fileConfig      = "config.json"
	fileIdentity    = "identity.json"
	fileApplied     = "config.applied"
)

// install writes an identity's files into its slot, beside the key that is there already. Repeating it changes nothing.
func (s *Store) install(id *Identity, certificate, roots string) error {
	config, err := json.Marshal(nonNil(id.Configuration))
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	files := []newFile{{fileCertificate, []byte(certificate)}, {fileConfig, append(config, '\n')}}
	if roots != "" {
		files = append(files, newFile{fileCA, []byte(roots)})
	}
	return s.write(id.slot, append(files, newFile{fileIdentity, append(about, '\n')})...)
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// load reads the identity of a slot and checks that its parts belong together. A slot without one is fs.ErrNotExist.
func (s *Store) load(slot string) (*Identity, error) {
	id := &Identity{slot: slot}
	if err := s.readJSON(s.path(slot, fileIdentity), id); err != nil {
		return nil, err
	}
	if err := s.readJSON(s.path(slot, fileConfig), &id.Configuration); err != nil {
		return nil, damaged(err)
	}
	certificate, err := s.fs.ReadFile(s.path(slot, fileCertificate))
	if err != nil {
		return nil, damaged(err)
	}
	key, err := s.readKey(slot)
	if err != nil {
		return nil, damaged(err)
	}
	if id.pair, err = tls.X509KeyPair(certificate, key); err != nil {
		return nil, storage(io.ErrUnexpectedEOF, "certificate and key in %s do not belong together", s.path(slot))
	}
	roots, err := s.fs.ReadFile(s.path(slot, fileCA))
	switch {
	case err == nil:
		id.Files.CA = s.path(slot, fileCA)
		if id.roots, err = parseRoots(string(roots)); err != nil {
			return nil, storage(io.ErrUnexpectedEOF, "no certificate in %s", id.Files.CA)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	id.Files.Certificate, id.Files.PrivateKey = s.path(slot, fileCertificate), s.path(slot, fileKey)
	id.Files.Configuration, id.Files.Identity = s.path(slot, fileConfig), s.path(slot, fileIdentity)
	return id, nil
}

// damaged turns "not there" into damage: identity.json is written last, so the other files must be there.
func damaged(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return storage(io.ErrUnexpectedEOF, "the identity is incomplete: %v", err)
	}
	return err
}

// readKey reads a slot's private key, which nobody else may be able to read.
func (s *Store) readKey(slot string) ([]byte, error) {
	name := s.path(slot, fileKey)
	mode, err := s.fs.Mode(name)
	if err != nil {
		return nil, err
	}
	if mode.Perm()&0o077 != 0 {
		return nil, &Error{Kind: KindStorage, Code: CodePermissions, Message: "others can read " + name, Cure: "chmod 600 " + name +
			"; if it may have been read, provision again"}
	}
	return s.fs.ReadFile(name)
}

func (s *Store) readJSON(name string, into any) error {
	b, err := s.fs.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return storage(io.ErrUnexpectedEOF, "%s is no JSON of the expected form", name)
	}
	return nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// clock corrects a clock that is behind by what the identity says of the time.
func (id *Identity) clock(now func() time.Time) func() time.Time {
	return laterOf(now, id.Provisioned, id.pair.Leaf.NotBefore)
}
