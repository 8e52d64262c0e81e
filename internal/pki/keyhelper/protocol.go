// Package keyhelper keeps signing keys in another process: a small helper that speaks to a security module (PKCS#11), so that the
// server needs neither cgo nor the module's PIN, and a stolen data folder holds no issuer's key.
//
// Begin with request and answer in this file, which are the whole protocol; PROTOCOL.md tells it to whoever writes another
// helper. Keys is the server's side, a pki.KeyStore; Serve is the helper's.
package keyhelper

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
)

// Version of the protocol. A request names it, and so does each answer.
const Version = 1

// maxFrame bounds what one side reads: the longest list of keys.
const maxFrame = 64 << 10 // bytes

// A frame is a length of four bytes, big-endian, and as many bytes of JSON. A connection carries requests and answers in turn.

// operation is what a request asks for.
type operation string

const (
	opAbout      operation = "about"       // what the helper is
	opList       operation = "list"        // names of keys
	opPublic     operation = "public"      // public key of a key
	opGenerate   operation = "generate"    // make a key that is not there yet
	opSign       operation = "sign"        // sign a digest
	opMasterKeys operation = "master-keys" // keys for --master-key-command
)

// A request has what its operation needs and nothing else.
type request struct {
	Version int         `json:"version"`
	Op      operation   `json:"op"`
	Key     string      `json:"key,omitempty"`     // public, generate, sign
	Type    pki.KeyType `json:"type,omitempty"`    // generate
	Digest  []byte      `json:"digest,omitempty"`  // sign
	Hash    string      `json:"hash,omitempty"`    // sign: what made the digest
	Padding string      `json:"padding,omitempty"` // sign, RSA: "" is PKCS #1 v1.5, "pss" is PSS with a salt as long as the digest
}

const paddingPSS = "pss"

// hashes are those that a digest may be of.
var hashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// An answer has what was asked for, or an error.
type answer struct {
	Version    int            `json:"version"`
	About      string         `json:"about,omitempty"`
	Keys       []string       `json:"keys,omitempty"`
	Public     []byte         `json:"public,omitempty"`    // SubjectPublicKeyInfo, DER
	Signature  []byte         `json:"signature,omitempty"` // ECDSA: ASN.1
	MasterKeys []fleet.Secret `json:"masterKeys,omitempty"`
	Error      *refusal       `json:"error,omitempty"`
}

// A refusal is why a request was not done.
type refusal struct {
	Code    code   `json:"code"`
	Message string `json:"message"`
}

type code string

const (
	codeNotFound    code = "not-found"   // no such key
	codeExists      code = "exists"      // the name is taken
	codeInvalid     code = "invalid"     // the request is wrong
	codeVersion     code = "version"     // the helper speaks another version
	codeUnavailable code = "unavailable" // the token does not answer now; asking again helps
	codeFailed      code = "failed"      // everything else
)

// err returns the error of a refusal, of the kind that pki.KeyStore promises.
func (r *refusal) err() error {
	switch r.Code {
	case codeNotFound:
		return fmt.Errorf("%s: %w", r.Message, fs.ErrNotExist)
	case codeExists:
		return fmt.Errorf("%s: %w", r.Message, fs.ErrExist)
	case codeUnavailable:
		return unavailable(errors.New(r.Message))
	}
	return errors.New(r.Message)
}

// unavailable is an error that passes by itself; clients are told no more than that.
func unavailable(err error) error {
	return &fleet.Error{Kind: fleet.KindUnavailable, Msg: "the signing keys cannot be reached at the moment", Err: err}
}

// readFrame reads the JSON of one frame; io.EOF means that there is no other.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: 1 to %d are allowed", n, maxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("a frame was cut short: %w", io.ErrUnexpectedEOF)
	}
	return body, nil
}

// writeFrame writes v as one frame.
func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("a frame would have %d bytes: %d are allowed", len(body), maxFrame)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...))
	return err
}

// parseRequest reads a request and checks everything that can be checked without the token.
func parseRequest(body []byte) (request, *refusal) {
	var r request
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, &refusal{codeInvalid, "the request: " + err.Error()}
	}
	if d.More() {
		return r, &refusal{codeInvalid, "the request: more than one JSON object"}
	}
	if r.Version != Version {
		return r, &refusal{codeVersion, fmt.Sprintf("the request is of version %d, this helper speaks version %d: install server and helper of the same release", r.Version, Version)}
	}
	if err := r.check(); err != nil {
		return r, &refusal{codeInvalid, err.Error()}
	}
	return r, nil
}

// check refuses members that are missing, wrong, or of another operation.
func (r request) check() error {
	want := request{Version: r.Version, Op: r.Op}
	switch r.Op {
	case opAbout, opList, opMasterKeys:
	case opPublic:
		want.Key = r.Key
	case opGenerate:
		want.Key, want.Type = r.Key, r.Type
		if r.Type != pki.P256 && r.Type != pki.RSA2048 {
			return fmt.Errorf("key type %q is neither %s nor %s", r.Type, pki.P256, pki.RSA2048)
		}
	case opSign:
		want = r
		hash, ok := hashes[r.Hash]
		switch {
		case !ok:
			return fmt.Errorf("hash %q is none of SHA-256, SHA-384 and SHA-512", r.Hash)
		case len(r.Digest) != hash.Size():
			return fmt.Errorf("a digest of %s has %d bytes, not %d", r.Hash, hash.Size(), len(r.Digest))
		case r.Padding != "" && r.Padding != paddingPSS:
			return fmt.Errorf("padding %q is not %q", r.Padding, paddingPSS)
		}
		want.Type = ""
	default:
		return fmt.Errorf("unknown operation %q", r.Op)
	}
	if want.Key != r.Key || want.Type != r.Type || len(want.Digest) != len(r.Digest) || want.Hash != r.Hash || want.Padding != r.Padding {
		return fmt.Errorf("operation %q has members that belong to another", r.Op)
	}
	if r.named() && !pki.ValidKeyName(r.Key) {
		return fmt.Errorf("key name %q: 1 to 64 characters of a-z, 0-9 and hyphen", r.Key)
	}
	return nil
}

// named reports whether the operation is about one key.
func (r request) named() bool { return r.Op == opPublic || r.Op == opGenerate || r.Op == opSign }

// options returns what a crypto.Signer is told.
func (r request) options() crypto.SignerOpts {
	hash := hashes[r.Hash]
	if r.Padding == paddingPSS {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return hash
}
