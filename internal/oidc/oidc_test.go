package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/oidc/oidctest"
)

const client = "app"

type world struct {
	*Verifier
	issuer *oidctest.Issuer
	clock  atomic.Pointer[time.Time]
}

func (w *world) now() time.Time           { return *w.clock.Load() }
func (w *world) forward(by time.Duration) { t := w.now().Add(by); w.clock.Store(&t) }
func (w *world) provider() Provider       { return Provider{Issuer: w.issuer.URL} }
func (w *world) verify(token string) (*Token, error) {
	return w.Verify(context.Background(), w.provider(), token, Expect{Audiences: []string{client}})
}

func newWorld(t testing.TB, keys ...oidctest.Key) *world {
	t.Helper()
	i := oidctest.New(t, keys...)
	roots := x509.NewCertPool()
	roots.AddCert(i.Server.Certificate())
	c, err := egress.New(egress.Config{Allow: []string{i.Host()}, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	w := &world{issuer: i}
	now := time.Now()
	w.clock.Store(&now)
	w.Verifier = New(Config{HTTP: c, Clock: w.now})
	return w
}

func TestGoodTokens(t *testing.T) {
	t.Parallel()
	for _, key := range []oidctest.Key{oidctest.RSA(t, "r"), oidctest.EC(t, "e")} {
		w := newWorld(t, key)
		now := time.Now()
		for _, c := range []struct {
			name     string
			change   oidctest.Claims
			audience string
		}{
			{"plain", nil, client},
			{"several audiences", oidctest.Claims{"aud": []string{"other", client}}, client},
			{"azp counts", oidctest.Claims{"aud": "resource", "azp": client}, client},
			{"with a slash more", oidctest.Claims{"iss": w.issuer.URL + "/"}, client},
			{"over for four minutes", oidctest.Claims{"exp": now.Add(-4 * time.Minute).Unix()}, client},
			{"issued in four minutes", oidctest.Claims{"iat": now.Add(4 * time.Minute).Unix(), "nbf": now.Add(4 * time.Minute).Unix()}, client},
			{"times with a fraction", oidctest.Claims{"iat": 1.5, "exp": 4e9 + 0.5}, client},
			{"Keycloak's Id token", oidctest.Claims{"typ": "ID"}, client},
			{"Cognito's Id token", oidctest.Claims{"token_use": "id"}, client},
		} {
			got, err := w.verify(w.issuer.Token(t, client, "ann", c.change))
			if err != nil {
				t.Errorf("%s, %s: %v", key.Alg, c.name, err)
			} else if got.Subject != "ann" || got.Audience != c.audience || got.Claims.String("sub") != "ann" {
				t.Errorf("%s, %s: %+v", key.Alg, c.name, got)
			}
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	rsaKey, ecKey, stranger := oidctest.RSA(t, "r"), oidctest.EC(t, "e"), oidctest.RSA(t, "r")
	w := newWorld(t, rsaKey, ecKey)
	now := time.Now()
	claims := func(change oidctest.Claims) oidctest.Claims { return w.issuer.Claims(client, "ann", now, change) }
	good := rsaKey.Sign(t, nil, claims(nil))
	parts := strings.Split(good, ".")
	public, err := x509.MarshalPKIXPublicKey(rsaKey.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	hs := func(secret []byte, kid string) string { // the public key as the shared secret: the classic confusion of algorithms
		raw := oidctest.Raw(t, oidctest.Claims{"alg": "HS256", "kid": kid, "typ": "JWT"}, claims(nil), nil)
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(strings.TrimSuffix(raw, ".")))
		return raw + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	twice := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + w.issuer.URL + `","sub":"ann","sub":"bob","aud":"app","exp":4000000000,"iat":1}`))
	for name, c := range map[string]struct {
		token  string
		reason Reason
	}{
		"nothing":                         {"", Malformed},
		"two parts":                       {parts[0] + "." + parts[1], Malformed},
		"four parts":                      {good + ".x", Malformed},
		"padding":                         {parts[0] + "=." + parts[1] + "." + parts[2], Malformed},
		"white space":                     {parts[0] + ".\n" + parts[1] + "." + parts[2], Malformed},
		"too long":                        {good + strings.Repeat("A", maxToken), Malformed},
		"JSON, not compact":               {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, Malformed},
		"a claim that comes twice":        {parts[0] + "." + twice + "." + parts[2], Malformed},
		"a list of claims":                {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + "." + parts[2], Malformed},
		"none":                            {oidctest.Raw(t, oidctest.Claims{"alg": "none"}, claims(nil), nil), Algorithm},
		"None":                            {oidctest.Raw(t, oidctest.Claims{"alg": "None", "kid": "r"}, claims(nil), nil), Algorithm},
		"no alg":                          {oidctest.Raw(t, oidctest.Claims{"kid": "r"}, claims(nil), []byte("x")), Algorithm},
		"HS256 with the public key":       {hs(public, "r"), Algorithm},
		"HS256 with nothing":              {hs(nil, "r"), Algorithm},
		"RS512":                           {rsaKey.Sign(t, oidctest.Claims{"alg": "RS512"}, claims(nil)), Algorithm},
		"EdDSA":                           {rsaKey.Sign(t, oidctest.Claims{"alg": "EdDSA"}, claims(nil)), Algorithm},
		"ES256 with the RSA key's id":     {ecKey.Sign(t, oidctest.Claims{"kid": "r"}, claims(nil)), Signature},
		"crit":                            {rsaKey.Sign(t, oidctest.Claims{"crit": []string{"exp"}}, claims(nil)), Malformed},
		"b64":                             {rsaKey.Sign(t, oidctest.Claims{"b64": false, "crit": []string{"b64"}}, claims(nil)), Malformed},
		"a key that comes along":          {stranger.Sign(t, oidctest.Claims{"kid": "mine", "jwk": json.RawMessage(jwkOf(t, stranger))}, claims(nil)), Signature},
		"a stranger's key":                {stranger.Sign(t, nil, claims(nil)), Signature},
		"an unknown key":                  {stranger.Sign(t, oidctest.Claims{"kid": "q"}, claims(nil)), Signature},
		"signature cut":                   {good[:len(good)-4], Signature},
		"no signature":                    {parts[0] + "." + parts[1] + ".", Signature},
		"another's signature":             {parts[0] + "." + parts[1] + "." + strings.Split(rsaKey.Sign(t, nil, claims(oidctest.Claims{"sub": "bob"})), ".")[2], Signature},
		"access token by its header":      {rsaKey.Sign(t, oidctest.Claims{"typ": "at+jwt"}, claims(nil)), NotID},
		"logout token by its header":      {rsaKey.Sign(t, oidctest.Claims{"typ": "logout+jwt"}, claims(nil)), NotID},
		"Cognito's access token":          {rsaKey.Sign(t, nil, claims(oidctest.Claims{"token_use": "access"})), NotID},
		"Keycloak's access token":         {rsaKey.Sign(t, nil, claims(oidctest.Claims{"typ": "Bearer", "azp": client, "aud": "account"})), NotID},
		"logout token":                    {rsaKey.Sign(t, nil, claims(oidctest.Claims{"events": oidctest.Claims{"http://schemas.openid.net/event/backchannel-logout": oidctest.Claims{}}})), NotID},
		"another issuer":                  {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iss": "https://evil.example/realm"})), Issuer},
		"the issuer with two slashes":     {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iss": w.issuer.URL + "//"})), Issuer},
		"the issuer in upper case":        {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iss": strings.ToUpper(w.issuer.URL)})), Issuer},
		"the issuer without scheme":       {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iss": w.issuer.Name()})), Issuer},
		"the issuer over plain HTTP":      {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iss": "http://" + w.issuer.Name()})), Issuer},
		"a list of issuers":               {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iss": []string{w.issuer.URL}})), Issuer},
		"no issuer":                       {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iss": nil})), Issuer},
		"another audience":                {rsaKey.Sign(t, nil, claims(oidctest.Claims{"aud": "other"})), Audience},
		"a part of the audience":          {rsaKey.Sign(t, nil, claims(oidctest.Claims{"aud": client + "2"})), Audience},
		"our audience, another's azp":     {rsaKey.Sign(t, nil, claims(oidctest.Claims{"azp": "other"})), Audience},
		"an azp that is no text":          {rsaKey.Sign(t, nil, claims(oidctest.Claims{"azp": []string{client}})), Audience},
		"an empty azp":                    {rsaKey.Sign(t, nil, claims(oidctest.Claims{"azp": ""})), Audience},
		"no audience, as an access token": {rsaKey.Sign(t, nil, claims(oidctest.Claims{"aud": nil})), Malformed},
		"no audience but azp":             {rsaKey.Sign(t, nil, claims(oidctest.Claims{"aud": nil, "azp": client})), Malformed},
		"no subject":                      {rsaKey.Sign(t, nil, claims(oidctest.Claims{"sub": nil})), Malformed},
		"a subject that is a number":      {rsaKey.Sign(t, nil, claims(oidctest.Claims{"sub": 7})), Malformed},
		"a subject that is too long":      {rsaKey.Sign(t, nil, claims(oidctest.Claims{"sub": strings.Repeat("s", 256)})), Malformed},
		"no exp":                          {rsaKey.Sign(t, nil, claims(oidctest.Claims{"exp": nil})), Malformed},
		"exp as text":                     {rsaKey.Sign(t, nil, claims(oidctest.Claims{"exp": "4000000000"})), Malformed},
		"exp beyond all numbers":          {rsaKey.Sign(t, nil, claims(oidctest.Claims{"exp": 1e300})), Malformed},
		"no iat":                          {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iat": nil})), Malformed},
		"over for six minutes":            {rsaKey.Sign(t, nil, claims(oidctest.Claims{"exp": now.Add(-6 * time.Minute).Unix()})), Expired},
		"issued in six minutes":           {rsaKey.Sign(t, nil, claims(oidctest.Claims{"iat": now.Add(6 * time.Minute).Unix()})), NotYet},
		"to be used in six minutes":       {rsaKey.Sign(t, nil, claims(oidctest.Claims{"nbf": now.Add(6 * time.Minute).Unix()})), NotYet},
		"to be used from some text on":    {rsaKey.Sign(t, nil, claims(oidctest.Claims{"nbf": "soon"})), Malformed},
	} {
		got, err := w.verify(c.token)
		if reason, ok := ReasonOf(err); !ok || reason != c.reason || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if n := w.issuer.KeySet.Load(); n > 2 {
		t.Errorf("the key set was asked for %d times", n)
	}
}

func jwkOf(t *testing.T, k oidctest.Key) []byte {
	t.Helper()
	other := oidctest.New(t, k)
	res, err := other.Server.Client().Get(other.URL + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	return set.Keys[0]
}

func TestRelyingPartiesAskForAudienceAndParty(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		change oidctest.Claims
		nonce  string
		reason Reason
		ok     bool
	}{
		"plain":                       {nil, "", 0, true},
		"several audiences":           {oidctest.Claims{"aud": []string{"x", client}, "azp": client}, "", 0, true},
		"a nonce":                     {oidctest.Claims{"nonce": "n"}, "n", 0, true},
		"another nonce":               {oidctest.Claims{"nonce": "m"}, "n", Nonce, false},
		"no nonce":                    {nil, "n", Nonce, false},
		"azp alone does not do":       {oidctest.Claims{"aud": "x", "azp": client}, "", Audience, false},
		"another azp":                 {oidctest.Claims{"azp": "x"}, "", Audience, false},
		"none of our clients is said": {oidctest.Claims{"aud": []string{"x", "y"}}, "", Audience, false},
	} {
		_, err := w.Verify(t.Context(), w.provider(), w.issuer.Token(t, client, "ann", c.change), Expect{Audiences: []string{client}, Party: true, Nonce: c.nonce})
		if reason, failed := ReasonOf(err); failed == c.ok || reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.Verify(t.Context(), w.provider(), w.issuer.Token(t, client, "ann", oidctest.Claims{"iss": "google"}),
		Expect{Audiences: []string{client}})
	if r, ok := ReasonOf(err); !ok || r != Issuer {
		t.Errorf("an issuer that is no alias: %v", err)
	}
	p := w.provider()
	p.Aliases = []string{"google"}
	if _, err := w.Verify(t.Context(), p, w.issuer.Token(t, client, "ann", oidctest.Claims{"iss": "google"}), Expect{Audiences: []string{client}}); err != nil {
		t.Errorf("an alias: %v", err)
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	first, second, third := oidctest.EC(t, "first"), oidctest.EC(t, "second"), oidctest.EC(t, "third")
	w := newWorld(t, first)
	old := w.issuer.Token(t, client, "ann", nil)
	if _, err := w.verify(old); err != nil {
		t.Fatal(err)
	}
	w.issuer.Publish(second, first)
	young := w.issuer.Token(t, client, "ann", nil)
	w.forward(pause)
	for _, token := range []string{young, old} {
		if _, err := w.verify(token); err != nil {
			t.Errorf("while both keys are published: %v", err)
		}
	}
	if n := w.issuer.KeySet.Load(); n != 2 {
		t.Errorf("the key set was asked for %d times, not twice", n)
	}
	w.issuer.Publish(third)
	w.forward(freshKeys)
	if _, err := w.verify(old); err == nil {
		t.Error("a key that was withdrawn still counts")
	}
	if n := w.issuer.Discovery.Load(); n != 1 {
		t.Errorf("the discovery document was asked for %d times, not once", n)
	}
}

func TestAKeyWithoutNameRotatesToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oidctest.EC(t, ""))
	sign := func(k oidctest.Key) string {
		return k.Sign(t, oidctest.Claims{"kid": nil}, w.issuer.Claims(client, "ann", time.Now(), nil))
	}
	if _, err := w.verify(sign(oidctest.EC(t, ""))); err == nil {
		t.Fatal("a stranger's key was believed")
	}
	next := oidctest.EC(t, "")
	w.issuer.Publish(next)
	w.forward(pause)
	if _, err := w.verify(sign(next)); err != nil {
		t.Error(err)
	}
	w.issuer.Publish(next, oidctest.EC(t, ""))
	w.forward(freshKeys)
	if _, err := w.verify(sign(next)); err == nil {
		t.Error("a token that names no key was believed although there are two")
	}
}

// Strangers can send tokens with whatever key id: that must not make us ask the provider each time.
func TestStrangersDoNotMakeUsAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := oidctest.EC(t, "made up")
	if _, err := w.verify(w.issuer.Token(t, client, "ann", nil)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for range 50 {
			if _, err := w.verify(stranger.Sign(t, nil, w.issuer.Claims(client, "ann", time.Now(), nil))); err == nil {
				t.Fatal("a stranger's key was believed")
			}
		}
		w.forward(pause)
	}
	if n := w.issuer.KeySet.Load(); n > 4 {
		t.Errorf("the key set was asked for %d times in %s", n, 3*pause)
	}
	// Tokens that are refused for what they say do not even ask once.
	x := newWorld(t)
	for _, change := range []oidctest.Claims{{"aud": "x"}, {"exp": 1}, {"iss": "https://x.example"}, {"token_use": "access"}} {
		if _, err := x.verify(x.issuer.Token(t, client, "ann", change)); err == nil {
			t.Fatal("believed")
		}
	}
	if n := x.issuer.KeySet.Load() + x.issuer.Discovery.Load(); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestOneFetchForAllWhoWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release, waiting := make(chan struct{}), make(chan struct{}, 1)
	w.issuer.Serve = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/keys") {
			waiting <- struct{}{}
			<-release
		}
		return false
	}
	token := w.issuer.Token(t, client, "ann", nil)
	ctx, cancel := context.WithCancel(t.Context())
	var impatient, patient sync.WaitGroup
	impatient.Go(func() {
		_, err := w.Verify(ctx, w.provider(), token, Expect{Audiences: []string{client}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("who went away: %v", err)
		}
	})
	<-waiting
	for range 20 {
		patient.Go(func() {
			if _, err := w.verify(token); err != nil {
				t.Error(err)
			}
		})
	}
	cancel() // whoever began the fetch goes away: the others get its answer all the same
	impatient.Wait()
	close(release)
	patient.Wait()
	if n := w.issuer.KeySet.Load(); n != 1 {
		t.Errorf("the key set was asked for %d times", n)
	}
}

func TestAProviderThatIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var down atomic.Bool
	w.issuer.Serve = func(rw http.ResponseWriter, _ *http.Request) bool {
		if down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
		}
		return down.Load()
	}
	down.Store(true)
	token := w.issuer.Token(t, client, "ann", oidctest.Claims{"exp": time.Now().Add(12 * time.Hour).Unix()})
	for range 10 {
		_, err := w.verify(token)
		if r, ok := ReasonOf(err); !ok || r != Unreachable {
			t.Fatalf("%v", err)
		}
	}
	if n := w.issuer.Discovery.Load(); n != 1 {
		t.Errorf("it was asked %d times within a moment", n)
	}
	down.Store(false)
	w.forward(pause)
	if _, err := w.verify(token); err != nil {
		t.Fatalf("once it is up again: %v", err)
	}
	down.Store(true)
	w.forward(freshKeys)
	for range 3 {
		if _, err := w.verify(token); err != nil {
			t.Errorf("with keys of %s ago: %v", freshKeys, err)
		}
	}
	w.forward(staleAfter)
	if _, err := w.verify(token); err == nil {
		t.Errorf("keys of more than %s ago still count", staleAfter)
	}
}

func TestWhatProvidersPublish(t *testing.T) {
	t.Parallel()
	set := func(keys string) func(http.ResponseWriter, *http.Request) bool {
		return func(rw http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/keys") {
				io.WriteString(rw, keys)
				return true
			}
			return false
		}
	}
	for name, c := range map[string]struct {
		change func(*oidctest.Issuer)
		reason Reason
	}{
		"another issuer":       {func(i *oidctest.Issuer) { i.Say("issuer", "https://accounts.google.com") }, Misconfigured},
		"no issuer":            {func(i *oidctest.Issuer) { i.Say("issuer", nil) }, Misconfigured},
		"no keys":              {func(i *oidctest.Issuer) { i.Say("jwks_uri", nil) }, Misconfigured},
		"keys over plain HTTP": {func(i *oidctest.Issuer) { i.Say("jwks_uri", "http://"+i.Name()+"/keys") }, Misconfigured},
		"keys in a file":       {func(i *oidctest.Issuer) { i.Say("jwks_uri", "file:///etc/passwd") }, Misconfigured},
		"keys at a private":    {func(i *oidctest.Issuer) { i.Say("jwks_uri", "https://169.254.169.254/keys") }, Unreachable},
		"keys elsewhere":       {func(i *oidctest.Issuer) { i.Say("jwks_uri", i.URL+"/nowhere") }, Unreachable},
		"too much":             {func(i *oidctest.Issuer) { i.Say("more", strings.Repeat("x", maxDocument)) }, Unreachable},
		"a redirect":           {func(i *oidctest.Issuer) { i.Serve = redirect }, Unreachable},
		"no key set":           {func(i *oidctest.Issuer) { i.Serve = set("hello") }, Misconfigured},
		"an empty key set":     {func(i *oidctest.Issuer) { i.Serve = set(`{"keys":[]}`) }, Misconfigured},
		"shared secrets": {func(i *oidctest.Issuer) {
			i.Serve = set(`{"keys":[{"kty":"oct","k":"AAAA","kid":"first","alg":"HS256"}]}`)
		}, Misconfigured},
		"a short RSA key": {func(i *oidctest.Issuer) {
			i.Serve = set(`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("x", 170) + `","e":"AQAB","kid":"first"}]}`)
		}, Misconfigured},
		"a key for encryption": {func(i *oidctest.Issuer) {
			i.Serve = set(`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("x", 342) + `","e":"AQAB","kid":"first","use":"enc"}]}`)
		}, Misconfigured},
		"a point off the curve": {func(i *oidctest.Issuer) {
			i.Serve = set(`{"keys":[{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`)
		}, Misconfigured},
		"too many keys": {func(i *oidctest.Issuer) { i.Serve = set(`{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`) }, Misconfigured},
	} {
		w := newWorld(t)
		c.change(w.issuer)
		_, err := w.verify(w.issuer.Token(t, client, "ann", nil))
		if r, ok := ReasonOf(err); !ok || r != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func redirect(rw http.ResponseWriter, r *http.Request) bool {
	http.Redirect(rw, r, "https://127.0.0.1:1/", http.StatusFound)
	return true
}

func TestIssuersThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, issuer := range []string{"", "id.example", "http://id.example", "https://", "https://user@id.example", "https://id.example?x=y", "https://id.example/#f", "ftp://id.example", "https://" + strings.Repeat("x", 255)} {
		if _, err := w.Discover(t.Context(), Provider{Issuer: issuer}); err == nil {
			t.Errorf("%q was asked", issuer)
		} else if r, _ := ReasonOf(err); r != Misconfigured {
			t.Errorf("%q: %v", issuer, err)
		}
	}
	p := w.provider()
	p.Thumbprints = []string{"x"}
	if _, err := w.Discover(t.Context(), p); err == nil {
		t.Error("a thumbprint that is none was taken")
	}
}

func TestThumbprintsOpenAProviderThatIsNotTrustedOtherwise(t *testing.T) {
	t.Parallel()
	i := oidctest.New(t)
	c, err := egress.New(egress.Config{Allow: []string{i.Host()}, Roots: x509.NewCertPool()})
	if err != nil {
		t.Fatal(err)
	}
	v := New(Config{HTTP: c})
	token := i.Token(t, client, "ann", nil)
	for name, c := range map[string]struct {
		thumbprints []string
		ok          bool
	}{"none": {nil, false}, "another": {[]string{strings.Repeat("a", 40)}, false}, "its own": {[]string{strings.Repeat("a", 40), i.Thumbprint()}, true}} {
		_, err := v.Verify(t.Context(), Provider{Issuer: i.URL, Thumbprints: c.thumbprints}, token, Expect{Audiences: []string{client}})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if r, _ := ReasonOf(err); !c.ok && r != Unreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiscoverTellsTheEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m, err := w.Discover(t.Context(), w.provider())
	if err != nil {
		t.Fatal(err)
	}
	if m.AuthorizationEndpoint != w.issuer.URL+"/authorize" || m.TokenEndpoint != w.issuer.URL+"/token" || m.UserInfoEndpoint != w.issuer.URL+"/userinfo" {
		t.Errorf("%+v", m)
	}
}

func TestTheIssuerOfATokenIsReadWithoutBelief(t *testing.T) {
	t.Parallel()
	k := oidctest.EC(t, "k")
	got, err := UnverifiedIssuer(k.Sign(t, nil, oidctest.Claims{"iss": "https://id.example"}))
	if err != nil || got != "https://id.example" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := UnverifiedIssuer("x.y.z"); err == nil {
		t.Error("a token that is none")
	}
}
