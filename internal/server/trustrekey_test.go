package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/userpool"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A wall is a clock that tests move.
type wall struct{ offset atomic.Int64 }

func (w *wall) now() time.Time       { return time.Now().Add(time.Duration(w.offset.Load())) }
func (w *wall) pass(d time.Duration) { w.offset.Add(int64(d)) }

// startIn starts a server on a folder; stop ends it.
func startIn(t testing.TB, data string, w *wall) (s *Server, stop func()) {
	t.Helper()
	s, err := Start(t.Context(), heldPorts(t, Config{Data: data, HTTPSPort: AnyPort, MQTTPort: AnyPort, KeyPool: 1, KeyWait: patience, Clock: w.now}))
	check(t, err)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			check(t, s.Close(context.Background()))
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// fill makes a value in each sealed column.
func fill(t testing.TB, s *Server) {
	t.Helper()
	ctx, scope := context.Background(), s.site.Scope
	p, err := s.userpools.CreatePool(ctx, scope, "installers", userpool.Settings{AutoVerified: []string{"email"},
		Password: userpool.PasswordPolicy{MinLength: 8, History: 2}}, nil)
	check(t, err)
	_, err = s.userpools.CreateClient(ctx, scope, p.ID, userpool.NewClient{Name: "app", Secret: "a secret of the client that is long enough"})
	check(t, err)
	_, err = s.userpools.CreateUser(ctx, scope, p.ID, userpool.NewUser{Username: "ann", Suppress: true})
	check(t, err)
	check(t, s.userpools.SetPassword(ctx, scope, p.ID, "ann", "correct horse 1A!", true))
	open, err := s.userpools.CreateClient(ctx, scope, p.ID, userpool.NewClient{Name: "web", ClientSettings: userpool.ClientSettings{AuthFlows: []string{"ALLOW_USER_PASSWORD_AUTH"}}})
	check(t, err)
	in, err := s.userpools.InitiateAuth(ctx, userpool.SignIn{ClientID: open.ID, Flow: "USER_PASSWORD_AUTH",
		Parameters: map[string]fleet.Secret{"USERNAME": "ann", "PASSWORD": "correct horse 1A!"}})
	check(t, err)
	_, err = s.userpools.SetMFA(ctx, scope, p.ID, userpool.MFAOptional, new(true), nil)
	check(t, err)
	_, _, err = s.userpools.NewSoftwareToken(ctx, userpool.Enrolment{AccessToken: in.Tokens.Access})
	check(t, err)
	_, err = s.userpools.SignUp(ctx, userpool.Registration{ClientID: open.ID, Username: "bob", Password: "correct horse 2B!",
		Attributes: map[string]string{"email": "bob@example.com"}})
	check(t, err)
}

// An opener opens everything and changes nothing.
type opener struct {
	*pki.Sealer
	seen map[string]int // purposes
}

func (o opener) Reseal(purpose string, sealed, aad []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	o.seen[purpose]++
	_, err := o.Open(purpose, sealed, aad)
	return nil, err
}

// wantOpen opens every sealed value of a stopped server's folder with the keys of its key file.
func wantOpen(t *testing.T, data string) (masterKeys, values int) {
	t.Helper()
	ctx := t.Context()
	k, err := openRekeyer(ctx, RekeyConfig{Data: data})
	check(t, err)
	defer func() { check(t, k.db.Close()) }()
	files, err := filepath.Glob(filepath.Join(data, pki.KeysDir, "*.key"))
	check(t, err)
	for _, f := range files {
		if _, err := k.keys.Signer(ctx, strings.TrimSuffix(filepath.Base(f), ".key")); err != nil {
			t.Error(err)
		}
	}
	o := opener{k.master.Sealer(), map[string]int{}}
	for _, all := range []func() (int, error){
		func() (int, error) { return iam.Reseal(ctx, k.db, o) },
		func() (int, error) { return userpool.Reseal(ctx, k.db, o) },
	} {
		if _, err := all(); err != nil {
			t.Error(err)
		}
	}
	values = len(files)
	for _, n := range o.seen {
		values += n
	}
	if len(o.seen) != 8 {
		t.Errorf("values of %d kinds were seen: %v", len(o.seen), o.seen)
	}
	return k.master.Older() + 1, values
}

func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	check(t, os.CopyFS(to, os.DirFS(from)))
	check(t, os.Chmod(to, 0o700))
	for _, dir := range []string{"pki/keys", "."} { // CopyFS widens modes
		entries, err := os.ReadDir(filepath.Join(to, dir))
		check(t, err)
		for _, e := range entries {
			if e.Type().IsRegular() {
				check(t, os.Chmod(filepath.Join(to, dir, e.Name()), 0o600))
			}
		}
	}
	return to
}

// filled is the folder of a stopped server that holds a value of each kind.
func filled(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	s, stop := startIn(t, data, &wall{})
	fill(t, s)
	stop()
	check(t, os.RemoveAll(filepath.Join(data, adminSocket)))
	return data
}

func TestAChangeOfTheMasterKeyCutAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	from := filled(t)
	before, err := os.ReadFile(filepath.Join(from, "master.key"))
	check(t, err)
	_, values := wantOpen(t, from)
	cut := errors.New("power cut")
	for n := 0; ; n++ {
		data := copyFolder(t, from)
		left, at := n, ""
		k, err := openRekeyer(t.Context(), RekeyConfig{Data: data})
		check(t, err)
		k.before = func(step string) error {
			if left--; left < 0 {
				at = step
				return cut
			}
			return nil
		}
		_, err = k.run(t.Context(), RekeyRequest{Now: true})
		check(t, k.db.Close())
		if err == nil {
			if n < values { // each value, the key file twice and the note of the time
				t.Errorf("a change takes %d steps; there are %d values", n, values)
			}
			t.Logf("%d steps, %d values", n, values)
			return
		}
		if !errors.Is(err, cut) {
			t.Fatalf("cut %d, at %q: %v", n, at, err)
		}
		if _, open := wantOpen(t, data); open != values {
			t.Errorf("cut %d, at %q: %d of %d values open", n, at, open, values)
		}
		if _, err := Rekey(t.Context(), RekeyConfig{Data: data, RekeyRequest: RekeyRequest{Now: true}}); err != nil {
			t.Errorf("cut %d, at %q: going on: %v", n, at, err)
		}
		if keys, open := wantOpen(t, data); keys != 1 || open != values {
			t.Errorf("cut %d, at %q: at the end there are %d master keys, and %d of %d values open", n, at, keys, open, values)
		}
		after, err := os.ReadFile(filepath.Join(data, "master.key"))
		check(t, err)
		if secret := strings.Split(string(before), "\n")[1]; strings.Contains(string(after), secret) {
			t.Errorf("cut %d, at %q: the old key is still there", n, at)
		}
	}
}

func TestARunningServerChangesItsMasterKeyAndKeepsSessions(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), &wall{}
	data := filepath.Join(t.TempDir(), "data")
	s, stop := startIn(t, data, w)
	fill(t, s)
	key, err := CreateAdminKey(ctx, data, "")
	check(t, err)
	c, err := s.iam.Lookup(ctx, s.site.Scope.Region, key.ID, "")
	check(t, err)
	session, err := s.iam.SessionToken(ctx, c.Caller, oldKeyLife)
	check(t, err)
	rekey := func(q RekeyRequest) (RekeyReport, error) {
		return Rekey(ctx, RekeyConfig{Data: data, RekeyRequest: q})
	}
	if _, err := rekey(RekeyRequest{Now: true}); err == nil || !strings.Contains(err.Error(), "stop the server first") {
		t.Errorf("--now beside a running server: %v", err)
	}
	first, err := rekey(RekeyRequest{})
	if err != nil || !first.Made || first.Resealed < 15 || first.Older != 1 || first.Dropped {
		t.Fatalf("the change: %+v, %v", first, err)
	}
	again, err := rekey(RekeyRequest{})
	if err != nil || again.Made || again.Resealed != 0 || again.Key != first.Key || !again.Until.Equal(first.Until) {
		t.Errorf("the change again: %+v, %v", again, err)
	}
	works := func(when string) {
		t.Helper()
		if _, err := s.iam.Lookup(ctx, s.site.Scope.Region, key.ID, ""); err != nil {
			t.Errorf("the access key, %s: %v", when, err)
		}
	}
	works("after the change")
	if _, err := s.iam.Lookup(ctx, s.site.Scope.Region, session.AccessKeyID, session.Token.Reveal()); err != nil {
		t.Errorf("a session of before the change: %v", err)
	}
	w.pass(oldKeyLife - time.Hour)
	if _, err := rekey(RekeyRequest{Finish: true}); err == nil || !strings.Contains(err.Error(), "may live until "+first.Until.UTC().Format(time.RFC3339)) {
		t.Errorf("finishing too early: %v", err)
	}
	w.pass(2 * time.Hour)
	last, err := rekey(RekeyRequest{Finish: true})
	if err != nil || !last.Dropped || last.Older != 0 || last.Resealed != 0 {
		t.Errorf("finishing: %+v, %v", last, err)
	}
	works("without the old key")
	if nothing, err := rekey(RekeyRequest{Finish: true}); err != nil || nothing.Dropped || nothing.Made {
		t.Errorf("finishing twice: %+v, %v", nothing, err)
	}
	stop()
	if keys, _ := wantOpen(t, data); keys != 1 {
		t.Errorf("%d master keys remain", keys)
	}
	s, _ = startIn(t, data, w)
	works("after a new start")
}

func TestAChangeOfTheMasterKeyMissesNothingThatIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), &wall{}
	data := filepath.Join(t.TempDir(), "data")
	s, stop := startIn(t, data, w)
	fill(t, s)
	pools, _, err := s.userpools.Pools(ctx, s.site.Scope, "", 10)
	check(t, err)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		name := fmt.Sprintf("writer-%d", i)
		_, err := s.userpools.CreateUser(ctx, s.site.Scope, pools[0].ID, userpool.NewUser{Username: name, Suppress: true})
		check(t, err)
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				password := fleet.Secret(fmt.Sprintf("correct horse %d", n))
				if err := s.userpools.SetPassword(context.WithoutCancel(ctx), s.site.Scope, pools[0].ID, name, password, true); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	_, err = Rekey(ctx, RekeyConfig{Data: data})
	close(done)
	wg.Wait()
	check(t, err)
	w.pass(oldKeyLife + time.Minute)
	if r, err := Rekey(ctx, RekeyConfig{Data: data, RekeyRequest: RekeyRequest{Finish: true}}); err != nil || !r.Dropped {
		t.Errorf("%+v, %v", r, err)
	}
	stop()
	if keys, _ := wantOpen(t, data); keys != 1 {
		t.Errorf("%d master keys remain", keys)
	}
}

func TestAStoppedServerEndsSessionsWhenToldTo(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), &wall{}
	data := filepath.Join(t.TempDir(), "data")
	s, stop := startIn(t, data, w)
	key, secret, err := s.iam.Bootstrap(ctx, s.site.Scope)
	check(t, err)
	c, err := s.iam.Lookup(ctx, s.site.Scope.Region, key, "")
	check(t, err)
	session, err := s.iam.SessionToken(ctx, c.Caller, time.Hour)
	check(t, err)
	stop()
	r, err := Rekey(ctx, RekeyConfig{Data: data, RekeyRequest: RekeyRequest{Now: true}})
	if err != nil || !r.Made || !r.Dropped {
		t.Fatalf("%+v, %v", r, err)
	}
	s, _ = startIn(t, data, w)
	if c, err = s.iam.Lookup(ctx, s.site.Scope.Region, key, ""); err != nil || c.Secret != secret {
		t.Errorf("the access key: %v", err)
	}
	if _, err := s.iam.Lookup(ctx, s.site.Scope.Region, session.AccessKeyID, session.Token.Reveal()); fleet.KindOf(err) != fleet.KindUnauthenticated {
		t.Errorf("a session under the old key: %v", err)
	}
}

func TestAKeyOfTheOperatorsIsChangedByTheOperator(t *testing.T) {
	t.Parallel()
	ctx, data := t.Context(), filled(t)
	text, err := os.ReadFile(filepath.Join(data, "master.key"))
	check(t, err)
	elsewhere := filepath.Join(t.TempDir(), "key")
	check(t, os.Rename(filepath.Join(data, "master.key"), elsewhere))
	c := RekeyConfig{Data: data, MasterKey: MasterKey{MasterKeyCmd: "cat " + elsewhere}, RekeyRequest: RekeyRequest{Now: true}}
	if _, err := Rekey(ctx, c); err == nil || !strings.Contains(err.Error(), "which only you can change: put a new key") {
		t.Errorf("a key from a command: %v", err)
	}
	added := fmt.Sprintf("%s\n%s", pki.NewMasterKeyText().Reveal(), text)
	check(t, os.WriteFile(elsewhere, []byte(added), 0o600))
	r, err := Rekey(ctx, c)
	if err != nil || r.Made || !r.Yours || r.Resealed < 15 {
		t.Errorf("with a new key before it: %+v, %v", r, err)
	}
	check(t, os.WriteFile(filepath.Join(data, "master.key"), []byte(strings.Split(added, "\n")[0]), 0o600))
	wantOpen(t, data)
}

func TestAFolderWithoutAServerIsNamed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nothing")
	_, err := Rekey(t.Context(), RekeyConfig{Data: dir})
	if err == nil || !strings.Contains(err.Error(), "is no data folder of a server") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}
