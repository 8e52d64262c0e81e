// Package oidctest is an identity provider for tests: a server of its own with TLS, a discovery document, keys that rotate, and
// tokens with whatever header and claims a test wants. It shares no code with what it tests but go-jose.
//
// Begin with New.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Claims of a token.
type Claims = map[string]any

// A Key signs tokens.
type Key struct {
	ID     string
	Signer crypto.Signer
	Alg    jose.SignatureAlgorithm
}

// An Issuer is an identity provider that runs.
type Issuer struct {
	URL    string // its issuer: https://127.0.0.1:port/realm
	Server *httptest.Server

	// Discovery and KeySet count how often each document was asked for.
	Discovery, KeySet atomic.Int32

	// Serve, if set, answers in place of the issuer; it returns false to let it answer after all.
	Serve func(http.ResponseWriter, *http.Request) bool

	mu       sync.Mutex
	keys     []Key // the newest first
	document Claims
}

// RSA and EC make a key.
func RSA(t testing.TB, id string) Key {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return Key{id, k, jose.RS256}
}

func EC(t testing.TB, id string) Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Key{id, k, jose.ES256}
}

// New starts an issuer with one key, for ES256 unless told otherwise since RSA keys take long to make. It ends with the test.
func New(t testing.TB, keys ...Key) *Issuer {
	t.Helper()
	if len(keys) == 0 {
		keys = []Key{EC(t, "first")}
	}
	i := &Issuer{keys: keys}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Server.Close)
	i.URL = i.Server.URL + "/realm"
	i.document = Claims{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
		"userinfo_endpoint": i.URL + "/userinfo", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"}}
	return i
}

// Thumbprint is the SHA-1 of the server's certificate, as IAM takes it.
func (i *Issuer) Thumbprint() string {
	sum := sha1.Sum(i.Server.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

// Name is the issuer without its scheme: the key of a Logins map.
func (i *Issuer) Name() string { return i.URL[len("https://"):] }

// Host is where egress has to be allowed to go.
func (i *Issuer) Host() string { return i.Server.Listener.Addr().String() }

// Say changes a member of the discovery document; nil takes it out.
func (i *Issuer) Say(name string, value any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.document[name] = value; value == nil {
		delete(i.document, name)
	}
}

// Publish replaces the keys; the first one signs.
func (i *Issuer) Publish(keys ...Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/realm/.well-known/openid-configuration":
		i.Discovery.Add(1)
	case "/realm/keys":
		i.KeySet.Add(1)
	}
	if i.Serve != nil && i.Serve(w, r) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	var err error
	switch r.URL.Path {
	case "/realm/.well-known/openid-configuration":
		err = json.NewEncoder(w).Encode(i.document)
	case "/realm/keys":
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
		for _, k := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Signer.Public(), KeyID: k.ID, Algorithm: string(k.Alg), Use: "sig"})
		}
		err = json.NewEncoder(w).Encode(set)
	default:
		http.NotFound(w, r)
	}
	if err != nil {
		panic(err)
	}
}

// Claims are those of a good Id token for a client, changed by some; a nil value takes a claim out.
func (i *Issuer) Claims(client, subject string, now time.Time, change Claims) Claims {
	c := Claims{"iss": i.URL, "aud": client, "sub": subject, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// Token is a good Id token for a client but for change.
func (i *Issuer) Token(t testing.TB, client, subject string, change Claims) string {
	t.Helper()
	i.mu.Lock()
	key := i.keys[0]
	i.mu.Unlock()
	return key.Sign(t, nil, i.Claims(client, subject, time.Now(), change))
}

// Sign makes a token; header holds members beside alg, kid and typ, or in place of them.
func (k Key) Sign(t testing.TB, header, claims Claims) string {
	t.Helper()
	head := Claims{"alg": string(k.Alg), "kid": k.ID, "typ": "JWT"}
	maps.Copy(head, header)
	maps.DeleteFunc(head, func(_ string, v any) bool { return v == nil })
	signed := part(t, head) + "." + part(t, claims)
	h := crypto.SHA256.New()
	h.Write([]byte(signed))
	var sig []byte
	var err error
	switch key := k.Signer.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, h.Sum(nil))
	case *ecdsa.PrivateKey:
		r, s, failed := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
		sig, err = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), failed
	default:
		err = fmt.Errorf("a key of type %T", k.Signer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// Raw puts a token together of a header, claims and a signature that a test made itself.
func Raw(t testing.TB, header, claims Claims, signature []byte) string {
	t.Helper()
	return part(t, header) + "." + part(t, claims) + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func part(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
