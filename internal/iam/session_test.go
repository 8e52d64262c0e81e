package iam

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestLongLivedKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow iot:* *")
	if ada.ARN != "arn:aws:iam::111111111111:user/ada" || ada.Kind != fleet.IAMUser || ada.Scope != here || !strings.HasPrefix(ada.UserID, "AIDA") {
		t.Errorf("caller %+v", ada)
	}
	unknown := func(key, token string) {
		t.Helper()
		_, err := w.Lookup(t.Context(), here.Region, key, token)
		w.refused(err, fleet.KindUnauthenticated, "The security token included in the request is invalid.")
	}
	unknown("AKIAAAAAAAAAAAAAAAAA", "")
	unknown(ada.AccessKeyID, "a token")
	w.ok(w.SetKeyActive(t.Context(), here, "ada", ada.AccessKeyID, false))
	unknown(ada.AccessKeyID, "")
	w.dead(w.can(ada, "iot:ListThings", "*")) // a connection that was open before
	w.ok(w.SetKeyActive(t.Context(), here, "ada", ada.AccessKeyID, true))
	w.caller(ada.AccessKeyID, "")
	w.ok(w.can(ada, "iot:ListThings", "*"))
	w.refused(w.DeleteKey(t.Context(), there, "ada", ada.AccessKeyID), fleet.KindNotFound, "cannot be found")
	w.ok(w.DeleteKey(t.Context(), here, "ada", ada.AccessKeyID))
	unknown(ada.AccessKeyID, "")
	w.dead(w.can(ada, "iot:ListThings", "*"))
}

func TestEachRequestHasACallerOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	role := w.role(here, "r", trustAWS(home))
	s, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session"})
	w.ok(err)
	for _, k := range [][2]string{{ada.AccessKeyID, ""}, {s.AccessKeyID, s.Token.Reveal()}} {
		w.caller(k[0], k[1]).SourceIP = "192.0.2.1"
		if ip := w.caller(k[0], k[1]).SourceIP; ip != "" {
			t.Errorf("%s: the address of another request, %s", k[0], ip)
		}
	}
}

func TestSessionTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	role := w.role(here, "r", trustAWS(home))
	s, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session"})
	w.ok(err)
	other, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "other"})
	w.ok(err)
	token := s.Token.Reveal()
	for name, k := range map[string][2]string{
		"no token":              {s.AccessKeyID, ""},
		"another session's":     {s.AccessKeyID, other.Token.Reveal()},
		"another key":           {other.AccessKeyID, token},
		"a changed token":       {s.AccessKeyID, token[:40] + string('A'+(token[40]-'A'+1)%26) + token[41:]},
		"half a token":          {s.AccessKeyID, token[:len(token)/2]},
		"no base64":             {s.AccessKeyID, "%%%"},
		"a token of a megabyte": {s.AccessKeyID, strings.Repeat("A", 1<<20)},
		"a key of ours":         {ada.AccessKeyID, token},
	} {
		_, err := w.Lookup(t.Context(), here.Region, k[0], k[1])
		if fleet.KindOf(err) != fleet.KindUnauthenticated || err.(*fleet.Error).Code != sigv4.UnrecognizedClient {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := w.caller(s.AccessKeyID, token)
	if c.ARN != "arn:aws:sts::111111111111:assumed-role/r/session" || !strings.HasSuffix(c.UserID, ":session") || c.ParentKeyID != ada.AccessKeyID {
		t.Errorf("caller %+v", c)
	}
	w.wait(time.Hour - time.Millisecond)
	w.caller(s.AccessKeyID, token)
	w.wait(time.Millisecond)
	_, err = w.Lookup(t.Context(), here.Region, s.AccessKeyID, token)
	w.refused(err, fleet.KindUnauthenticated, "The security token included in the request is expired")
	w.refused(w.can(c, "iot:ListThings", "*"), fleet.KindUnauthenticated, "expired") // a connection that is still open
}

func TestAnotherMasterKeyOpensNoToken(t *testing.T) {
	t.Parallel()
	w, v := newWorld(t), newWorld(t)
	v.sealer = badSealer{}
	ada := w.user(here, "ada", "Allow sts:* *")
	s, err := w.SessionToken(t.Context(), ada, 0)
	w.ok(err)
	_, err = v.Lookup(t.Context(), here.Region, s.AccessKeyID, s.Token.Reveal())
	w.refused(err, fleet.KindUnauthenticated, "invalid")
}

type badSealer struct{ Sealer }

func (badSealer) Open(string, []byte, []byte) ([]byte, error) { return nil, errTest }

func TestPoliciesAndTagsThatDoNotFitAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	role := w.role(here, "r", trust(`["sts:AssumeRole","sts:TagSession"]`, `{"AWS":"`+home+`"}`, ""))
	tags := map[string]string{}
	for i := range 50 {
		tags["key"+string(rune('A'+i))] = fleet.RandomString(200, fleet.AlphaAlnum)
	}
	_, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session", Tags: tags})
	if fleet.KindOf(err) != fleet.KindInvalid || err.(*fleet.Error).Code != "PackedPolicyTooLarge" {
		t.Fatalf("got %v", err)
	}
	s, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session", Tags: map[string]string{"plant": "north"}, Policy: document("Allow iot:* *")})
	w.ok(err)
	if len(s.Token) > maxToken || s.Packed == 0 {
		t.Errorf("a token of %d characters, packed %d %%", len(s.Token), s.Packed)
	}
	_, err = w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session", Policy: "{"})
	w.refused(err, fleet.KindMalformedPolicy, "")
}

// TestCutOffs: whatever ends credentials ends them at once, for new requests and for connections that are open, and not those
// issued after.
func TestCutOffs(t *testing.T) {
	t.Parallel()
	const pool = "user:us-east-1_Pool/sub-1"
	tests := []struct {
		name string
		end  func(w *world, ada *fleet.Caller)
		dead []string // of: person, session, user, chained, foreign
	}{
		{"a person is signed out", func(w *world, _ *fleet.Caller) { signOut(w, here, pool) }, []string{"person"}},
		{"another person is signed out", func(w *world, _ *fleet.Caller) { signOut(w, here, pool+"2") }, nil},
		{"the namesake of another account is signed out", func(w *world, _ *fleet.Caller) { signOut(w, there, pool) }, nil},
		{"the role is trusted by others", func(w *world, _ *fleet.Caller) {
			w.ok(w.SetTrust(w.Context(), here, "r", trustAWS(abroad)))
		}, []string{"person", "session"}},
		{"the role is deleted", func(w *world, _ *fleet.Caller) {
			w.ok(w.DeleteInline(w.Context(), here, store.IAMRole, "r", "p"))
			w.ok(w.Delete(w.Context(), here, store.IAMRole, "r"))
		}, []string{"person", "session"}},
		{"the role is replaced by a namesake", func(w *world, _ *fleet.Caller) {
			w.ok(w.DeleteInline(w.Context(), here, store.IAMRole, "r", "p"))
			w.ok(w.Delete(w.Context(), here, store.IAMRole, "r"))
			w.wait(time.Millisecond)
			w.role(here, "r", trustAWS(home), "Allow * *")
		}, []string{"person", "session"}},
		{"the key is switched off", func(w *world, ada *fleet.Caller) {
			w.ok(w.SetKeyActive(w.Context(), here, "ada", ada.AccessKeyID, false))
		}, []string{"session", "user", "chained", "foreign"}},
		{"the key is off and on again", func(w *world, ada *fleet.Caller) {
			w.ok(w.SetKeyActive(w.Context(), here, "ada", ada.AccessKeyID, false))
			w.wait(time.Millisecond)
			w.ok(w.SetKeyActive(w.Context(), here, "ada", ada.AccessKeyID, true))
		}, []string{"session", "user", "chained", "foreign"}},
		{"the key is deleted", func(w *world, ada *fleet.Caller) {
			w.ok(w.DeleteKey(w.Context(), here, "ada", ada.AccessKeyID))
		}, []string{"session", "user", "chained", "foreign"}},
		{"another key of the user is deleted", func(w *world, _ *fleet.Caller) {
			k, err := w.CreateKey(w.Context(), here, "ada")
			w.ok(err)
			w.ok(w.DeleteKey(w.Context(), here, "ada", k.ID))
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ada := w.user(here, "ada", "Allow * *")
			role := w.role(here, "r", `{"Version":"2012-10-17","Statement":[
				{"Effect":"Allow","Principal":{"AWS":"`+home+`"},"Action":"sts:AssumeRole"},
				{"Effect":"Allow","Principal":`+federatedTrust+`,"Action":"sts:AssumeRoleWithWebIdentity"}]}`, "Allow * *")
			next := w.role(here, "next", trustAWS(home), "Allow * *")
			foreign := w.role(there, "foreign", trustAWS(home), "Allow * *")
			token, err := w.SessionToken(t.Context(), ada, 0)
			w.ok(err)
			user := w.caller(token.AccessKeyID, token.Token.Reveal())
			via := w.assume(ada, w.role(here, "via", trustAWS(home), "Allow * *"))
			live := map[string]*fleet.Caller{"person": w.signedIn(here, role), "session": w.assume(ada, role), "user": user, "chained": w.assume(via, next), "foreign": w.assume(user, foreign)}
			for name, c := range live {
				if err := w.can(c, "iot:ListThings", "*"); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			w.wait(time.Millisecond)
			tt.end(w, ada)
			w.wait(time.Millisecond)
			for name, c := range live {
				err := w.can(c, "iot:ListThings", "*")
				if want := strings.Contains(strings.Join(tt.dead, " "), name); (fleet.KindUnauthenticated == kindOf(err)) != want || !want && err != nil {
					t.Errorf("%s: dead should be %v, got %v", name, want, err)
				}
			}
		})
	}
}

func TestWhoSignsInAgainAfterACutOffIsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	role := w.role(here, "r", trust(`"sts:AssumeRoleWithWebIdentity"`, federatedTrust, ""), "Allow * *")
	before := w.signedIn(here, role)
	signOut(w, here, "user:us-east-1_Pool/sub-1")
	w.dead(w.can(before, "iot:ListThings", "*"))
	w.wait(time.Millisecond)
	w.ok(w.can(w.signedIn(here, role), "iot:ListThings", "*"))
	w.dead(w.can(before, "iot:ListThings", "*"))
}

func TestAPersonWhoIsSignedOutIsSoInEveryRegion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	role := w.role(here, "r", trust(`"sts:AssumeRoleWithWebIdentity"`, federatedTrust, ""), "Allow * *")
	elsewhere := fleet.Scope{Account: home, Region: "eu-west-1"} // where the identity pool is, and the claim was made; the user pool is here
	c := w.signedIn(elsewhere, role)
	c.Scope.Region = elsewhere.Region
	entitled := func() error {
		return w.db.View(t.Context(), func(tx *store.Tx) error {
			return w.StillEntitled(tx, elsewhere, fleet.InstallerOf(c), c.IssuedAt, "iot:ListThings", "*")
		})
	}
	w.ok(w.can(c, "iot:ListThings", "*"))
	w.ok(entitled())
	signOut(w, here, "user:us-east-1_Pool/sub-1")
	w.dead(w.can(c, "iot:ListThings", "*"))
	w.refused(entitled(), fleet.KindDenied, "signed out")
}

func TestSessionTokensOfUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow * *")
	s, err := w.SessionToken(t.Context(), ada, 0)
	w.ok(err)
	if d := s.Expires.Sub(w.clock); d != 12*time.Hour {
		t.Errorf("lives for %v", d)
	}
	c := w.caller(s.AccessKeyID, s.Token.Reveal())
	if c.ARN != ada.ARN || c.UserID != ada.UserID {
		t.Errorf("caller %+v", c)
	}
	w.ok(w.can(c, "iot:ListThings", "*"))
	w.ok(w.can(c, "sts:AssumeRole", "*"))
	w.refused(w.can(c, "iam:ListUsers", "*"), fleet.KindDenied, "is not authorized to perform: iam:ListUsers on resource: *")
	w.refused(w.can(c, "sts:GetFederationToken", "*"), fleet.KindDenied, "sts:GetFederationToken")
	_, err = w.SessionToken(t.Context(), c, 0)
	w.refused(err, fleet.KindDenied, "Cannot call GetSessionToken with session credentials")
	w.ok(w.DeleteInline(t.Context(), here, store.IAMUser, "ada", "p"))
	w.refused(w.can(c, "iot:ListThings", "*"), fleet.KindDenied, "because no identity-based policy allows the iot:ListThings action")
}

// TestWhatIsBeingWithdrawnLeavesNoSessionBehind: somebody with a stolen key asks again and again while it is withdrawn. The withdrawal has a
// time before its commit, and a session that is made in between, with a later time, would live on.
func TestWhatIsBeingWithdrawnLeavesNoSessionBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow * *")
	role := w.role(here, "r", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"`+home+`"},"Action":"sts:AssumeRole"},
		{"Effect":"Allow","Principal":`+federatedTrust+`,"Action":"sts:AssumeRoleWithWebIdentity"}]}`, "Allow * *")
	var session *fleet.Caller // of ada, with the role
	withdrawKey := func(tx *store.Tx, at time.Time) error {
		if err := tx.CutOff(here.Global(), "key:"+ada.AccessKeyID, at); err != nil {
			return err
		}
		return tx.SetAccessKeyActive(here, ada.AccessKeyID, false)
	}
	distrust := func(tx *store.Tx, at time.Time) error {
		e, err := get(tx, here, store.IAMRole, "r")
		if err != nil {
			return err
		}
		e.Trust = trustAWS(abroad)
		if err := update(tx, here, e); err != nil {
			return err
		}
		return tx.CutOff(here.Global(), "role:r", at)
	}
	for _, tt := range []struct {
		name     string
		withdraw func(*store.Tx, time.Time) error
		issue    func() (Credentials, error)
	}{
		{"a role whose trust policy is replaced", distrust, func() (Credentials, error) {
			s, err := w.IssueSession(t.Context(), SessionRequest{Scope: here, RoleARN: role, Name: "session", Action: "sts:AssumeRoleWithWebIdentity",
				Principal: policy.Principal{Federated: fleet.IdentityPools}, Federation: person()})
			return s.Credentials, err
		}},
		{"a key, for a session of its user", withdrawKey, func() (Credentials, error) { return w.SessionToken(t.Context(), ada, 0) }},
		{"a key, for a role", withdrawKey, func() (Credentials, error) {
			s, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session"})
			return s.Credentials, err
		}},
		{"a key, for a role by another session", withdrawKey, func() (Credentials, error) {
			s, err := w.AssumeRole(t.Context(), session, AssumeRequest{RoleARN: role, Name: "session"})
			return s.Credentials, err
		}},
	} {
		w.ok(w.SetKeyActive(t.Context(), here, "ada", ada.AccessKeyID, true))
		w.tx(func(tx *store.Tx) error {
			e, err := get(tx, here, store.IAMRole, "r")
			if e.Trust = strings.ReplaceAll(e.Trust, abroad, home); err != nil {
				return err
			}
			return update(tx, here, e)
		})
		session = w.assume(ada, role)
		type answer struct {
			Credentials
			err error
		}
		answers, at := make(chan answer, 1), w.clock
		var once sync.Once
		w.tx(func(tx *store.Tx) error {
			if err := tt.withdraw(tx, at); err != nil {
				return err
			}
			once.Do(func() { // this transaction is not committed yet
				w.wait(time.Millisecond)
				writes := w.db.Writes()
				go func() { c, err := tt.issue(); answers <- answer{c, err} }()
				for len(answers) == 0 && w.db.Writes() == writes {
					runtime.Gosched()
				}
			})
			return nil
		})
		if a := <-answers; a.err == nil {
			if _, err := w.Lookup(t.Context(), here.Region, a.AccessKeyID, a.Token.Reveal()); err == nil {
				t.Errorf("%s: a session lives on", tt.name)
			}
		}
		w.wait(time.Second)
	}
}
