package device

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Bounds of what ParseClaim accepts.
const (
	MaxClaimSize  = 64 << 10 // bytes
	maxParameters = 64
	maxParameter  = 4096 // bytes of a value
	maxPorts      = 8
)

// A Claim is what an installer, or the factory, gives to a device: a certificate and key that may do nothing but ask for an
// identity, and where and how to ask. Make one with ParseClaim. Formatting a Claim never shows its key.
type Claim struct {
	Certificate *x509.Certificate
	Endpoint    string            // host name of the service; empty: the caller knows
	Ports       []int             // to be tried in order; nil: DefaultPorts
	Roots       string            // PEM of the roots to trust; empty: the caller's or the system's
	Template    string            // empty: the caller knows
	Parameters  map[string]string // for the template
	Time        time.Time         // wall-clock time when the claim was handed over; zero: not told

	pair   tls.Certificate
	keyPEM []byte
}

// claimJSON has the members that we read: those of `aws iot create-provisioning-claim` and `create-keys-and-certificate`
// (provisioning spec 1.2, 6.2), and those of our bundle, which adds where to go.
type claimJSON struct {
	CertificatePEM string `json:"certificatePem"`
	KeyPair        struct {
		PrivateKey string `json:"PrivateKey"`
	} `json:"keyPair,omitzero"`

	PrivateKey string            `json:"privateKey,omitempty"`
	Endpoint   string            `json:"endpoint,omitempty"`
	Ports      []int             `json:"ports,omitempty"`
	Roots      string            `json:"roots,omitempty"`
	Template   string            `json:"templateName,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Time       json.RawMessage   `json:"time,omitempty"` // epoch seconds or RFC 3339
}

// validTemplate reports whether s may name a template: [0-9A-Za-z_-]{1,36} (provisioning spec 3.1).
func validTemplate(s string) bool {
	odd := func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '_' || r == '-')
	}
	return s != "" && len(s) <= 36 && !strings.ContainsFunc(s, odd)
}

// ParseClaim reads a claim, at most MaxClaimSize bytes, in one of these forms:
//
//   - the JSON that `aws iot create-provisioning-claim` or `aws iot create-keys-and-certificate` prints;
//   - a bundle: {"certificatePem", "privateKey", "endpoint", "ports": [8883, 443], "roots": PEM, "templateName",
//     "parameters": {…}, "time": epoch seconds or RFC 3339}, of which only the first two are needed;
//   - PEM: the certificate and its private key, in any order.
//
// Members that it does not know are ignored. The error is an *Error of KindClaim and never quotes the input.
func ParseClaim(b []byte) (*Claim, error) {
	if len(b) > MaxClaimSize {
		return nil, malformed("it has more than %d bytes", MaxClaimSize)
	}
	var in claimJSON
	if trimmed := bytes.TrimSpace(b); bytes.HasPrefix(trimmed, []byte("-----BEGIN")) {
		in.CertificatePEM, in.PrivateKey = string(b), string(b) // tls.X509KeyPair picks the right blocks
	} else if err := json.Unmarshal(b, &in); err != nil {
		return nil, malformed("it is neither JSON of the expected form nor PEM%s", offset(err))
	}
	c := &Claim{Endpoint: in.Endpoint, Ports: in.Ports, Roots: in.Roots, Template: in.Template, Parameters: in.Parameters}
	if in.PrivateKey == "" {
		in.PrivateKey = in.KeyPair.PrivateKey
	}
	if in.CertificatePEM == "" || in.PrivateKey == "" {
		return nil, malformed("certificatePem and keyPair.PrivateKey (or privateKey) are needed")
	}
	if err := c.setPair(in.CertificatePEM, in.PrivateKey); err != nil {
		return nil, err
	}
	var err error
	if c.Time, err = parseTime(in.Time); err != nil {
		return nil, err
	}
	return c, c.check()
}

func malformed(format string, args ...any) *Error {
	return &Error{Kind: KindClaim, Code: CodeClaimMalformed, Message: "the claim cannot be read: " + fmt.Sprintf(format, args...),
		Cure: "pass on the claim exactly as the service gave it"}
}

// offset says where JSON broke, without quoting what stands there.
func offset(err error) string {
	switch e := err.(type) {
	case *json.SyntaxError:
		return fmt.Sprintf(" (byte %d)", e.Offset)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf(" (member %s)", e.Field)
	}
	return ""
}

func (c *Claim) setPair(certPEM, keyPEM string) error {
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		return malformed("certificate and private key are not PEM, or do not belong together")
	}
	c.pair, c.Certificate = pair, pair.Leaf
	for rest := []byte(keyPEM); ; { // of a PEM file with both, only the key
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return malformed("no private key")
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			c.keyPEM = pem.EncodeToMemory(block)
			return nil
		}
	}
}

func (c *Claim) check() error {
	if c.Template != "" && !validTemplate(c.Template) {
		return malformed("templateName is no name of a template")
	}
	if len(c.Endpoint) > 253+6 {
		return malformed("endpoint is too long")
	}
	if len(c.Ports) > maxPorts {
		return malformed("more than %d ports", maxPorts)
	}
	for _, p := range c.Ports {
		if p < 1 || p > 65535 {
			return malformed("port %d", p)
		}
	}
	if len(c.Parameters) > maxParameters {
		return malformed("more than %d parameters", maxParameters)
	}
	for k, v := range c.Parameters {
		if k == "" || len(k) > maxParameter || len(v) > maxParameter {
			return malformed("a parameter has no name, or more than %d bytes", maxParameter)
		}
	}
	if c.Roots != "" {
		if _, err := parseRoots(c.Roots); err != nil {
			return malformed("roots holds no certificate")
		}
	}
	return nil
}

// parseTime reads epoch seconds, whole or with a fraction, or RFC 3339 text.
func parseTime(raw json.RawMessage) (time.Time, error) {
	var s string
	if len(raw) == 0 || string(raw) == "null" {
		return time.Time{}, nil
	}
	if json.Unmarshal(raw, &s) == nil {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return time.Time{}, malformed("time is neither epoch seconds nor RFC 3339")
		}
		return t, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || !(f >= 0 && f < 1<<40) {
		return time.Time{}, malformed("time is neither epoch seconds nor RFC 3339")
	}
	return time.Unix(int64(f), 0), nil
}

// parseRoots reads PEM with at least one certificate.
func parseRoots(s string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s)) {
		return nil, usage("give PEM with the service's root certificates", "no certificate among the roots")
	}
	return pool, nil
}

// ID returns the certificate id of the claim: hex SHA-256 of the DER (provisioning spec 9.2).
func (c *Claim) ID() string { return certificateID(c.Certificate) }

// Temporary reports whether the claim is of the kind that an installer asks for: valid for minutes, not for years.
func (c *Claim) Temporary() bool {
	return c.Certificate.NotAfter.Sub(c.Certificate.NotBefore) < 24*time.Hour
}

// marshal gives the form in which the store keeps a claim until it has been used.
func (c *Claim) marshal() ([]byte, error) {
	var chain []byte
	for _, der := range c.pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	in := claimJSON{CertificatePEM: string(chain), PrivateKey: string(c.keyPEM), Endpoint: c.Endpoint, Ports: c.Ports,
		Roots: c.Roots, Template: c.Template, Parameters: c.Parameters}
	if !c.Time.IsZero() {
		in.Time = json.RawMessage(strconv.FormatInt(c.Time.Unix(), 10))
	}
	return json.Marshal(in)
}

// String, GoString and LogValue name the claim without its key.
func (c *Claim) String() string       { return "claim " + c.ID() }
func (c *Claim) GoString() string     { return c.String() }
func (c *Claim) LogValue() slog.Value { return slog.StringValue(c.String()) }

func certificateID(c *x509.Certificate) string {
	h := sha256.Sum256(c.Raw)
	return hex.EncodeToString(h[:])
}
