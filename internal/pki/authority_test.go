package pki

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fileConfig is an authority in a data folder as the server has it.
func fileConfig(t *testing.T, data string, s *Sealer) Config {
	t.Helper()
	keys, err := NewFileKeys(filepath.Join(data, KeysDir), s)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Dir: filepath.Join(data, AuthorityDir), Keys: keys, NoRSA: true, Clock: testClock}
}

func TestASecondStartFindsWhatTheFirstMade(t *testing.T) {
	t.Parallel()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	first := openTest(t, func(x *Config) { *x = c })
	leaf, err := first.IssueDevice(DeviceRequest{PublicKey: ecKey(t, elliptic.P256()).Public()})
	if err != nil {
		t.Fatal(err)
	}
	second := openTest(t, func(x *Config) { *x = c })
	if first.RootsPEM() != second.RootsPEM() || first.DeviceRootsPEM() != second.DeviceRootsPEM() {
		t.Error("the roots changed")
	}
	if !slices.Equal(first.server.Load().ecdsa.Certificate[0], second.server.Load().ecdsa.Certificate[0]) {
		t.Error("the server's certificate changed")
	}
	if v := second.VerifyLeaf(leaf.DER, testNow); v.Kind != DeviceLeaf || !v.Valid {
		t.Errorf("a device of the first start is %+v", v)
	}
	if n := strings.Count(first.RootsPEM(), "BEGIN CERTIFICATE"); n != 1 {
		t.Errorf("clients pin %d roots", n)
	}
	if strings.Contains(first.DeviceRootsPEM(), strings.TrimSpace(first.RootsPEM())) {
		t.Error("device certificates hang below a root that devices pin")
	}
	for _, path := range []string{"pki/authority.json", "pki/server.pem", "pki/keys/server-leaf.key"} {
		info, err := os.Stat(filepath.Join(filepath.Dir(c.Dir), path))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestRSAMayBeAddedLater(t *testing.T) {
	t.Parallel()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	before := openTest(t, func(x *Config) { *x = c })
	c.NoRSA = false
	after := openTest(t, func(x *Config) { *x = c })
	if !strings.HasPrefix(after.RootsPEM(), before.RootsPEM()) || strings.Count(after.RootsPEM(), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("the roots are\n%s", after.RootsPEM())
	}
}

func TestAnIssuerOfAnotherNameOrKeyStandsBesideTheOldOne(t *testing.T) {
	t.Parallel()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	key := ecKey(t, elliptic.P256()).Public()
	open := func(d IssuerConfig) *Authority {
		return openTest(t, func(x *Config) { *x = c; x.Device = d })
	}
	old, err := open(IssuerConfig{}).IssueDevice(DeviceRequest{PublicKey: key})
	if err != nil {
		t.Fatal(err)
	}
	a := open(IssuerConfig{Name: "O=Example, CN=Example Devices", Key: RSA2048})
	leaf, err := a.IssueDevice(DeviceRequest{PublicKey: key})
	if err != nil {
		t.Fatal(err)
	}
	cert := parseLeaf(t, leaf.DER)
	if got := cert.Issuer.String(); got != "CN=Example Devices,O=Example" {
		t.Errorf("the issuer is %s", got)
	}
	if got := cert.SignatureAlgorithm.String(); got != "SHA256-RSA" {
		t.Errorf("the signature is %s", got)
	}
	for _, l := range []*Leaf{old, leaf} {
		if v := a.VerifyLeaf(l.DER, testNow); !v.Valid {
			t.Errorf("%+v", v)
		}
	}
	// Neither the same configuration nor an empty one makes a third.
	for _, d := range []IssuerConfig{{Name: "O=Example, CN=Example Devices"}, {}} {
		if again := open(d); len(again.all()) != len(a.all()) || again.trust.Load().device.key != a.trust.Load().device.key {
			t.Errorf("%+v makes another issuer", d)
		}
	}
	if _, err := OpenAuthority(t.Context(), Config{Dir: t.TempDir(), Keys: NewMemoryKeys(), NoRSA: true, Claim: IssuerConfig{Name: "nonsense"}}); err == nil {
		t.Error("an issuer without a proper name was made")
	}
}

func TestTheRootsMayBeKeptElsewhere(t *testing.T) {
	t.Parallel()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	openTest(t, func(x *Config) { *x = c })
	for _, root := range []string{"server-root-1", "device-root-1"} {
		if err := os.Remove(filepath.Join(c.Dir, "keys", root+".key")); err != nil {
			t.Fatal(err)
		}
	}
	openTest(t, func(x *Config) { *x = c })
	c.Device.Name = "CN=New"
	_, err := OpenAuthority(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "the device-root CA's key is missing: put it back") {
		t.Errorf("a new issuer without its root: %v", err)
	}
}

func TestTroubleWithTheFilesIsNamed(t *testing.T) {
	t.Parallel()
	edit := func(name string, change func(string) string) func(*testing.T, Config) {
		return func(t *testing.T, c Config) {
			path := filepath.Join(c.Dir, name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, change(string(text)), 0o600)
		}
	}
	for name, tc := range map[string]struct {
		harm func(*testing.T, Config)
		want string
	}{
		"a lost issuer key": {func(t *testing.T, c Config) {
			if err := os.Remove(filepath.Join(c.Dir, "keys", "device-1.key")); err != nil {
				t.Fatal(err)
			}
		}, "the device CA's key is missing"},
		"a key of another backup": {func(t *testing.T, c Config) {
			if _, err := c.Keys.(LeafStore).Replace(context.Background(), "device-1", P256); err != nil {
				t.Fatal(err)
			}
		}, "come from different backups"},
		"a damaged state file": {edit(authorityFile, func(s string) string { return s[:100] }), "is damaged, put it back from a backup"},
		"a newer state file":   {edit(authorityFile, func(s string) string { return strings.Replace(s, `"version": 1`, `"version": 3`, 1) }), "newer release"},
		"no certificate":       {edit(authorityFile, func(s string) string { return strings.Replace(s, "-----BEGIN", "-----BEGUN", 1) }), "is damaged"},
		"an open key file": {func(t *testing.T, c Config) {
			if err := os.Chmod(filepath.Join(c.Dir, "keys", "claim-1.key"), 0o640); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
			openTest(t, func(x *Config) { *x = c })
			tc.harm(t, c)
			if _, err := OpenAuthority(t.Context(), c); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("OpenAuthority: %v; want %q", err, tc.want)
			}
		})
	}
}

func TestTheWrongMasterKeyIsNamed(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	openTest(t, func(x *Config) { *x = fileConfig(t, data, NewSealer(testKey(1))) })
	_, err := OpenAuthority(t.Context(), fileConfig(t, data, NewSealer(testKey(2))))
	for _, want := range []string{keyIDOf(testKey(1)).String(), keyIDOf(testKey(2)).String(), "give the master key of the earlier starts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OpenAuthority: %v; want %q", err, want)
		}
	}
	// Both keys given, everything opens: this is how a master key is changed.
	openTest(t, func(x *Config) { *x = fileConfig(t, data, NewSealer(testKey(2), testKey(1))) })
}

// cutKeys stops everything at the nth key, before it is made or right after: what a power cut leaves behind.
type cutKeys struct {
	KeyStore
	left  int
	after bool
}

var errCut = errors.New("power cut")

func (k *cutKeys) Create(ctx context.Context, name string, t KeyType) (crypto.Signer, error) {
	return k.cut(func() (crypto.Signer, error) { return k.KeyStore.Create(ctx, name, t) })
}

func (k *cutKeys) Replace(ctx context.Context, name string, t KeyType) (crypto.Signer, error) {
	return k.cut(func() (crypto.Signer, error) { return k.KeyStore.(LeafStore).Replace(ctx, name, t) })
}

func (k *cutKeys) cut(make func() (crypto.Signer, error)) (crypto.Signer, error) {
	k.left--
	if k.left < 0 && !k.after {
		return nil, errCut
	}
	key, err := make()
	if k.left < 0 {
		return nil, errCut
	}
	return key, err
}

func TestAFirstStartCutAnywhereIsDoneAgain(t *testing.T) {
	t.Parallel()
	const keys = 6 // two roots, three issuers, one server leaf
	for n := range keys {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("at key %d, after it was written: %v", n, after), func(t *testing.T) {
				t.Parallel()
				c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
				cut := c
				cut.Keys = &cutKeys{c.Keys, n, after}
				if _, err := OpenAuthority(t.Context(), cut); !errors.Is(err, errCut) {
					t.Fatalf("OpenAuthority: %v", err)
				}
				// A cut in the middle of a write leaves a temporary file.
				write(t, filepath.Join(c.Dir, ".authority.json.123.tmp"), `{"version"`, 0o600)
				checkWhole(t, c)
			})
		}
	}
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	c.Keys = &cutKeys{c.Keys, keys, false}
	if _, err := OpenAuthority(t.Context(), c); err != nil {
		t.Errorf("a first start takes more than %d keys: %v", keys, err)
	}
}

// checkWhole opens an authority twice and checks that it is whole and stays the same.
func checkWhole(t *testing.T, c Config) *Authority {
	t.Helper()
	a := openTest(t, func(x *Config) { *x = c })
	leaf, err := a.IssueDevice(DeviceRequest{PublicKey: ecKey(t, elliptic.P256()).Public()})
	if err != nil {
		t.Fatal(err)
	}
	b := openTest(t, func(x *Config) { *x = c })
	if v := b.VerifyLeaf(leaf.DER, testNow); !v.Valid {
		t.Errorf("%+v", v)
	}
	if a.RootsPEM() != b.RootsPEM() || len(a.all()) != len(b.all()) {
		t.Error("the authority is not the same at the next start")
	}
	if err := handshake(t, b, b.RootsPEM(), nil); err != nil {
		t.Error(err)
	}
	return b
}

func TestALostStateFileComesBackFromTheKeys(t *testing.T) {
	t.Parallel()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	a := openTest(t, func(x *Config) { *x = c })
	pinned := a.RootsPEM()
	if err := os.Remove(filepath.Join(c.Dir, authorityFile)); err != nil {
		t.Fatal(err)
	}
	b := checkWhole(t, c)
	if err := handshake(t, b, pinned, nil); err != nil {
		t.Errorf("a device that pinned the root before cannot connect: %v", err)
	}
}

func TestServerFilesCutShortAreReplaced(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(c Config) error{
		"no certificate":       func(c Config) error { return os.Remove(filepath.Join(c.Dir, "server.pem")) },
		"an empty certificate": func(c Config) error { return os.WriteFile(filepath.Join(c.Dir, "server.pem"), nil, 0o600) },
		"a damaged key":        func(c Config) error { return os.Truncate(filepath.Join(c.Dir, "keys", "server-leaf.key"), 40) },
		"a key of the next leaf": func(c Config) error {
			_, err := c.Keys.(LeafStore).Replace(context.Background(), "server-leaf", P256)
			return err
		},
		"a leaf of somebody else": func(c Config) error {
			return os.Rename(filepath.Join(c.Dir, "authority.json"), filepath.Join(c.Dir, "server.pem"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
			openTest(t, func(x *Config) { *x = c })
			if err := harm(c); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, c)
		})
	}
}

func TestABadConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"neither a DNS name":         func(c *Config) { c.Names = []string{"bad name"} },
		`"bücher.example"`:           func(c *Config) { c.Names = []string{"Bücher.example"} },
		"is negative":                func(c *Config) { c.DeviceValidity = -time.Hour },
		"neither P-256 nor RSA-2048": func(c *Config) { c.Device.Key = "P-384" },
		"not a directory":            func(c *Config) { c.Dir = write(t, filepath.Join(c.Dir, "f"), "", 0o600) + "/pki" },
		`attribute "X"`:              func(c *Config) { c.Claim.Name = "X=1" },
	} {
		c := Config{Dir: t.TempDir(), Keys: NewMemoryKeys(), NoRSA: true, Clock: testClock}
		change(&c)
		if _, err := OpenAuthority(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OpenAuthority: %v; want %q", err, want)
		}
	}
}
