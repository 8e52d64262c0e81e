package identitypool_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/identitypool"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/oidc/oidctest"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// The whole way of an installer through the real rules: user pool, identity pool, IAM.

var home = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

const password = "P@ssw0rd!1"

// keys are the same few for all tests: each takes a tenth of a second to make.
type keys struct{ taken atomic.Int32 }

var made = [3]func() (*rsa.PrivateKey, error){newKey(), newKey(), newKey()}

func newKey() func() (*rsa.PrivateKey, error) {
	return sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
}

func (k *keys) Take(context.Context) (*rsa.PrivateKey, error) { return made[k.taken.Add(1)%2]() }

type silence struct{}

func (silence) Send(context.Context, delivery.Message) error { return nil }

type story struct {
	*testing.T
	admin      context.Context
	db         *store.DB
	issuer     *oidctest.Issuer // another identity provider, and, by its thumbprint, reachable
	users      *userpool.Service
	iam        *iam.Service
	identities *identitypool.Service

	mu  sync.Mutex
	now time.Time

	pool     *userpool.Pool
	app      *userpool.Client
	identity *identitypool.Pool
}

func (s *story) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(time.Millisecond) // one thing comes after the other
	return s.now
}

func (s *story) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func trust(pool string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"cognito-identity.amazonaws.com"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession"],
	"Condition":{"StringEquals":{"cognito-identity.amazonaws.com:aud":"` + pool + `"},"ForAnyValue:StringLike":{"cognito-identity.amazonaws.com:amr":"authenticated"}}}]}`
}

func role(name string) string { return home.IAM("role/" + name) }

// begin makes a pool with the user ada in the group installers, whose role is installer, and an identity pool that maps by token.
func begin(t *testing.T) *story {
	t.Helper()
	s := &story{T: t, now: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: s.clock})
	s.must(err)
	t.Cleanup(func() { db.Close() })
	sealer := pki.NewSealer([pki.KeySize]byte{1})
	s.db, s.issuer = db, oidctest.New(t)
	out, err := egress.New(egress.Config{Allow: []string{"127.0.0.1"}, Roots: x509.NewCertPool()})
	s.must(err)
	issuers := oidc.New(oidc.Config{HTTP: out, Clock: s.clock})
	s.iam = iam.New(iam.Config{Store: db, Sealer: sealer, OIDC: issuers, Clock: s.clock})
	s.must(db.Tx(t.Context(), func(tx *store.Tx) error { return tx.CreateAccount(home.Account, "test") }))
	admin, _, err := s.iam.Bootstrap(t.Context(), home)
	s.must(err)
	c, err := s.iam.Lookup(t.Context(), home.Region, admin, "")
	s.must(err)
	ctx := fleet.WithCaller(t.Context(), c.Caller)
	s.admin = ctx

	s.users, err = userpool.New(userpool.Config{Store: db, Sealer: sealer, Keys: &keys{}, Roles: s.iam, Delivery: silence{}, Issuer: "https://iot.lan:8443", Clock: s.clock})
	s.must(err)
	key, err := made[2]()
	s.must(err)
	s.identities = identitypool.New(identitypool.Config{Store: db, Tokens: s.users, Sessions: s.iam, Issuers: issuers, Key: key, IssuerHost: "iot.lan:8443", Clock: s.clock})

	s.pool, err = s.users.CreatePool(ctx, home, "installers", userpool.Settings{}, nil)
	s.must(err)
	s.app, err = s.users.CreateClient(ctx, home, s.pool.ID, userpool.NewClient{Name: "app", ClientSettings: userpool.ClientSettings{AuthFlows: []string{"ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}}})
	s.must(err)
	provider := "cognito-idp.us-east-1.amazonaws.com/" + s.pool.ID
	s.identity, err = s.identities.Create(ctx, home, "installers", nil, identitypool.Settings{
		Providers: []identitypool.Provider{{Name: provider, ClientID: s.app.ID}}, Roles: map[string]string{"authenticated": role("visitor")},
		Mappings: map[string]identitypool.Mapping{provider + ":" + s.app.ID: {Type: "Token", Ambiguous: "AuthenticatedRole"}},
	})
	s.must(err)
	for _, name := range []string{"installer", "visitor", "other"} {
		_, err := s.iam.CreateRole(ctx, home, iam.Entity{Name: name, Body: iam.Body{Trust: trust(s.identity.ID)}})
		s.must(err)
	}
	_, err = s.users.CreateGroup(ctx, home, s.pool.ID, userpool.Group{Name: "installers", RoleARN: role("installer")})
	s.must(err)
	_, err = s.users.CreateUser(ctx, home, s.pool.ID, userpool.NewUser{Username: "ada", Suppress: true})
	s.must(err)
	s.must(s.users.SetPassword(ctx, home, s.pool.ID, "ada", password, true))
	s.must(s.users.AddToGroup(ctx, home, s.pool.ID, "ada", "installers"))
	return s
}

// signIn returns the tokens of ada.
func (s *story) signIn() *userpool.Tokens {
	s.Helper()
	o, err := s.users.InitiateAuth(s.Context(), userpool.SignIn{ClientID: s.app.ID, Flow: "USER_PASSWORD_AUTH",
		Parameters: map[string]fleet.Secret{"USERNAME": "ada", "PASSWORD": password}})
	s.must(err)
	return o.Tokens
}

// credentials trades an Id token as clients do.
func (s *story) credentials(id fleet.Secret, custom string) (iam.Credentials, error) {
	s.Helper()
	logins := map[string]fleet.Secret{"iot.lan:8443/" + s.pool.ID: id}
	identity, err := s.identities.ID(s.Context(), s.identity.ID, logins)
	if err != nil {
		return iam.Credentials{}, err
	}
	_, c, err := s.identities.Credentials(s.Context(), identity, logins, custom)
	return c, err
}

// caller uses credentials.
func (s *story) caller(c iam.Credentials) (*fleet.Caller, error) {
	got, err := s.iam.Lookup(s.Context(), home.Region, c.AccessKeyID, c.Token.Reveal())
	return got.Caller, err
}

func code(err error) string {
	var e *fleet.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestAnInstallerGetsTheRoleOfTheGroup(t *testing.T) {
	t.Parallel()
	s := begin(t)
	c, err := s.credentials(s.signIn().ID, "")
	s.must(err)
	who, err := s.caller(c)
	s.must(err)
	if who.ARN != "arn:aws:sts::000000000000:assumed-role/installer/CognitoIdentityCredentials" || who.Federation.Username != "ada" || who.Federation.PoolID != s.pool.ID {
		t.Errorf("caller %+v of %+v", who, who.Federation)
	}
	if d := c.Expires.Sub(s.clock()); d > time.Hour || d < time.Hour-time.Second {
		t.Errorf("credentials live %v", d)
	}
	if _, err := s.credentials(s.signIn().ID, role("other")); code(err) != "NotAuthorizedException" {
		t.Errorf("a role that the token does not hold: %v", err)
	}
	if _, err := s.credentials(s.signIn().Access, ""); code(err) != "NotAuthorizedException" || err.Error() != "Invalid login token. Missing a required claim: aud" {
		t.Errorf("access token: %v", err)
	}
}

func TestWhatEndsAnInstallersCredentials(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		do func(*story, *userpool.Tokens) error
		// again is the role that the same Id token gives afterwards, "" for none
		again string
	}{
		"disabling the user": {func(s *story, _ *userpool.Tokens) error {
			return s.users.EnableUser(ctx, home, s.pool.ID, "ada", false)
		}, ""},
		"deleting the user":             {func(s *story, _ *userpool.Tokens) error { return s.users.DeleteUser(ctx, home, s.pool.ID, "ada") }, ""},
		"the administrator signs out":   {func(s *story, _ *userpool.Tokens) error { return s.users.SignOutUser(ctx, home, s.pool.ID, "ada") }, ""},
		"the user signs out everywhere": {func(s *story, tk *userpool.Tokens) error { return s.users.SignOutEverywhere(ctx, tk.Access) }, ""},
		"the user leaves the group": {func(s *story, _ *userpool.Tokens) error {
			return s.users.RemoveFromGroup(ctx, home, s.pool.ID, "ada", "installers")
		}, "visitor"},
		"the group is deleted": {func(s *story, _ *userpool.Tokens) error {
			return s.users.DeleteGroup(ctx, home, s.pool.ID, "installers")
		}, "visitor"},
		"the pool is deleted":            {func(s *story, _ *userpool.Tokens) error { return s.users.DeletePool(ctx, home, s.pool.ID) }, ""},
		"the user deletes their account": {func(s *story, tk *userpool.Tokens) error { return s.users.DeleteSelf(ctx, tk.Access) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t)
			tokens := s.signIn()
			credentials, err := s.credentials(tokens.ID, "")
			s.must(err)
			if _, err := s.caller(credentials); err != nil {
				t.Fatal(err)
			}
			s.must(c.do(s, tokens))
			if who, err := s.caller(credentials); err == nil {
				t.Errorf("the credentials still work: %+v", who)
			}
			after, err := s.credentials(tokens.ID, "")
			if c.again == "" {
				if err == nil {
					t.Error("the old Id token gives new credentials")
				}
				return
			}
			s.must(err)
			if who, err := s.caller(after); err != nil || who.Name != c.again {
				t.Errorf("the old Id token gives %+v, %v; want %s", who, err, c.again)
			}
		})
	}
}

func TestSigningOutOneDeviceLeavesCredentialsOfTheOthers(t *testing.T) {
	t.Parallel()
	s := begin(t)
	one, two := s.signIn(), s.signIn()
	c, err := s.credentials(two.ID, "")
	s.must(err)
	s.must(s.users.Revoke(t.Context(), s.app.ID, "", one.Refresh))
	if _, err := s.credentials(one.ID, ""); code(err) != "NotAuthorizedException" {
		t.Errorf("the revoked sign-in: %v", err)
	}
	if _, err := s.caller(c); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

func TestATrustPolicyThatNamesAnotherPoolRefuses(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.must(s.iam.SetTrust(t.Context(), home, "installer", trust("us-east-1:00000000-0000-4000-8000-000000000000")))
	_, err := s.credentials(s.signIn().ID, "")
	if code(err) != "InvalidIdentityPoolConfigurationException" || err.Error()[:len("Invalid identity pool configuration. Check assigned IAM roles for this pool.")] != "Invalid identity pool configuration. Check assigned IAM roles for this pool." {
		t.Errorf("got %v", err)
	}
}

func TestATokenOfTheClassicFlowDiesWithTheSignIn(t *testing.T) {
	t.Parallel()
	s := begin(t)
	ctx := t.Context()
	_, err := s.identities.Update(ctx, home, s.identity.ID, func(p *identitypool.Pool) { p.Classic = true })
	s.must(err)
	logins := map[string]fleet.Secret{"iot.lan:8443/" + s.pool.ID: s.signIn().ID}
	id, err := s.identities.ID(ctx, s.identity.ID, logins)
	s.must(err)
	_, token, err := s.identities.OpenIDToken(ctx, id, logins)
	s.must(err)
	c, err := s.identities.VerifyToken(ctx, token.Reveal())
	if err != nil || c.String("sub") != id {
		t.Fatalf("%v, %v", c, err)
	}
	s.must(s.identities.StillHolds(ctx, c))
	s.must(s.users.EnableUser(ctx, home, s.pool.ID, "ada", false))
	if err := s.identities.StillHolds(ctx, c); code(err) != "ExpiredTokenException" {
		t.Errorf("what was verified before the user was disabled still holds: %v", err)
	}
	if _, err := s.identities.VerifyToken(ctx, token.Reveal()); code(err) != "ExpiredTokenException" {
		t.Errorf("after the user was disabled: %v", err)
	}
}
