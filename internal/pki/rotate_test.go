package pki

import (
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func count(pem string) int { return strings.Count(pem, "BEGIN CERTIFICATE") }

// wantClients checks which clients can connect.
func wantClients(t *testing.T, when string, a *Authority, old, both string, oldWorks bool) {
	t.Helper()
	if err := handshake(t, a, old, nil); (err == nil) != oldWorks {
		t.Errorf("%s, a client with the old roots: %v", when, err)
	}
	if err := handshake(t, a, both, nil); err != nil {
		t.Errorf("%s, a client with both: %v", when, err)
	}
}

func TestRootsOverlapUntilTheRotationIsFinished(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	c.NoRSA = false
	a := openTest(t, func(x *Config) { *x = c })
	key := ecKey(t, elliptic.P256()).Public()
	issue := func() *Leaf {
		t.Helper()
		l, err := a.IssueDevice(DeviceRequest{PublicKey: key})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	old, early := a.RootsPEM(), issue()
	if err := a.FinishRotation(ctx); !errors.Is(err, errNotRotating) {
		t.Errorf("finishing nothing: %v", err)
	}
	if begun, err := a.Rotate(ctx); !begun || err != nil {
		t.Fatalf("Rotate = %v, %v", begun, err)
	}
	both := a.RootsPEM()
	if count(old) != 2 || count(both) != 4 || count(a.DeviceRootsPEM()) != 6 {
		t.Errorf("%d roots before, %d during the rotation; devices hang below %d", count(old), count(both), count(a.DeviceRootsPEM()))
	}
	during := issue()
	if begun, err := a.Rotate(ctx); begun || err != nil || a.RootsPEM() != both {
		t.Errorf("a second Rotate = %v, %v", begun, err)
	}
	if _, err := a.DropOldRoots(); !errors.Is(err, errRotating) {
		t.Errorf("dropping the old roots too early: %v", err)
	}
	wantClients(t, "during", a, old, both, true)
	a = openTest(t, func(x *Config) { *x = c }) // a new start changes nothing
	wantClients(t, "after a start", a, old, both, true)
	if err := a.FinishRotation(ctx); err != nil {
		t.Fatal(err)
	}
	wantClients(t, "finished", a, old, both, false)
	a = openTest(t, func(x *Config) { *x = c })
	wantClients(t, "finished, after a start", a, old, both, false)
	after := issue()
	for name, l := range map[string]*Leaf{"before": early, "during": during, "after": after} {
		if v := a.VerifyLeaf(l.DER, testNow); !v.Valid || v.Kind != DeviceLeaf {
			t.Errorf("a device of %s the rotation is %+v", name, v)
		}
	}
	if string(parseLeaf(t, early.DER).AuthorityKeyId) != string(parseLeaf(t, during.DER).AuthorityKeyId) ||
		string(parseLeaf(t, early.DER).AuthorityKeyId) == string(parseLeaf(t, after.DER).AuthorityKeyId) {
		t.Error("the next issuer signs from the end of the rotation, not before or never")
	}
	if n, err := a.DropOldRoots(); n != 2 || err != nil {
		t.Errorf("DropOldRoots = %d, %v", n, err)
	}
	if got := a.RootsPEM(); count(got) != 2 || strings.Contains(got, old[:200]) {
		t.Errorf("%d roots are handed out in the end", count(got))
	}
	checkWhole(t, c)
	if begun, err := a.Rotate(ctx); !begun || err != nil || count(a.RootsPEM()) != 4 {
		t.Errorf("the next rotation: %v, %v", begun, err)
	}
}

func TestARenewalDuringARotationStaysUnderTheOldRoot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := openTest(t, nil)
	old := a.RootsPEM()
	if _, err := a.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Renew(ctx, testNow.Add(61*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	late := func(c *tls.Config) { c.Time = func() time.Time { return testNow.Add(62 * 24 * time.Hour) } }
	if err := handshake(t, a, old, late); err != nil {
		t.Error(err)
	}
}

func TestOpenConnectionsOutliveARotation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := openTest(t, nil)
	near, far := net.Pipe()
	go func() {
		server := tls.Server(far, &tls.Config{GetCertificate: a.GetCertificate})
		b := make([]byte, 1)
		for {
			if _, err := server.Read(b); err != nil {
				return
			}
			if _, err := server.Write(b); err != nil {
				return
			}
		}
	}()
	pool := a.pool(roleServerRoot)
	client := tls.Client(near, &tls.Config{RootCAs: pool, ServerName: "localhost", Time: testClock})
	defer near.Close()
	echo := func(b byte) {
		t.Helper()
		got := []byte{0}
		if _, err := client.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(got); err != nil || got[0] != b {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	echo(1)
	if _, err := a.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	echo(2)
	if err := a.FinishRotation(ctx); err != nil {
		t.Fatal(err)
	}
	echo(3)
}

func TestIssuersCanBeReplacedUnderTheSameRoots(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := openTest(t, nil)
	key := ecKey(t, elliptic.P256()).Public()
	pinned := a.RootsPEM()
	old, err := a.IssueDevice(DeviceRequest{PublicKey: key})
	if err != nil {
		t.Fatal(err)
	}
	leaf := a.server.Load().ecdsa
	if err := a.RotateIssuers(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if a.RootsPEM() != pinned || a.server.Load().ecdsa == leaf {
		t.Error("the roots changed, or the server's certificate did not")
	}
	if err := handshake(t, a, pinned, nil); err != nil {
		t.Error(err)
	}
	if v := a.VerifyLeaf(old.DER, testNow); !v.Valid {
		t.Errorf("%+v", v)
	}
	if _, err := a.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.RotateIssuers(ctx, nil); !errors.Is(err, errRotating) {
		t.Errorf("during a rotation: %v", err)
	}
}

func TestARotationCutAnywhereIsDoneAgain(t *testing.T) {
	t.Parallel()
	const keys = 5 // two roots, three issuers
	for n := range keys + 1 {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("at key %d, after it was written: %v", n, after), func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
				old := openTest(t, func(x *Config) { *x = c }).RootsPEM()
				cut := c
				cut.Keys = &cutKeys{c.Keys, n, after}
				a := openTest(t, func(x *Config) { *x = cut })
				_, err := a.Rotate(ctx)
				if n < keys && !errors.Is(err, errCut) || n == keys && err != nil {
					t.Fatalf("Rotate: %v", err)
				}
				if n < keys && a.RootsPEM() != old {
					t.Error("half a rotation is handed out")
				}
				if n == keys { // the certificate of the server is the next key
					if err := a.FinishRotation(ctx); !errors.Is(err, errCut) {
						t.Fatalf("FinishRotation: %v", err)
					}
					wantClients(t, "with the old certificate still", a, old, a.RootsPEM(), true)
					checkWhole(t, c)
					return
				}
				b := checkWhole(t, c)
				if begun, err := b.Rotate(ctx); !begun || err != nil {
					t.Fatalf("the next attempt: %v, %v", begun, err)
				}
				both := b.RootsPEM()
				if err := b.FinishRotation(ctx); err != nil {
					t.Fatal(err)
				}
				wantClients(t, "finished", b, old, both, false)
				left, err := filepath.Glob(filepath.Join(c.Dir, "keys", "*.key"))
				if err != nil || len(left) != 2*keys+1 {
					t.Errorf("%d keys are left: %v", len(left), err)
				}
			})
		}
	}
}

func TestAFailedWriteLeavesTheRootsAsTheyWere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := fileConfig(t, t.TempDir(), NewSealer(testKey(1)))
	a := openTest(t, func(x *Config) { *x = c })
	old := a.RootsPEM()
	state := filepath.Join(c.Dir, authorityFile)
	kept, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	// A folder in the file's place lets no rename through.
	for _, err := range []error{os.Remove(state), os.MkdirAll(filepath.Join(state, "x"), 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Rotate(ctx); err == nil || a.RootsPEM() != old {
		t.Errorf("Rotate: %v", err)
	}
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	write(t, state, string(kept), 0o600)
	if begun, err := a.Rotate(context.Background()); !begun || err != nil {
		t.Errorf("Rotate again: %v, %v", begun, err)
	}
}

func TestCAsAreListedWithTheirState(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := openTest(t, nil)
	states := func() (s []string) {
		for _, c := range a.CAs(ctx) {
			if c.Role == "server-root" {
				s = append(s, c.State+" "+c.Key)
			}
		}
		return s
	}
	var got [][]string
	got = append(got, states())
	for _, step := range []func() error{
		func() error { _, err := a.Rotate(ctx); return err },
		func() error { return a.FinishRotation(ctx) },
		func() error { _, err := a.DropOldRoots(); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		got = append(got, states())
	}
	want := "[[in use here] [in use here next here] [former here in use here] [dropped here in use here]]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}
