package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

func verifiedByJOSE(t *testing.T, token, keys string) (claims object) {
	t.Helper()
	var set jose.JSONWebKeySet
	noError(t, json.Unmarshal([]byte(keys), &set))
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	noError(t, err)
	key := set.Key(signed.Signatures[0].Header.KeyID)
	if len(key) != 1 {
		t.Fatalf("%d keys of this id in %s", len(key), keys)
	}
	payload, err := signed.Verify(key[0])
	noError(t, err)
	noError(t, json.Unmarshal(payload, &claims))
	return claims
}

func TestHealthAndKeysNeedNoSignature(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if res, body := answer(t, s, http.MethodGet, path, ""); res.StatusCode != 200 || body != want {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
	res, body := answer(t, s, http.MethodGet, "/.well-known/jwks_uri", "")
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(body), &set); err != nil || len(set.Keys) != 1 || res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%v %s", err, body)
	}
	if res, _ := answer(t, s, http.MethodGet, "/us-east-1_nowhere0/.well-known/jwks.json", ""); res.StatusCode/100 != 4 {
		t.Errorf("keys of no pool: %d", res.StatusCode)
	}
}

func TestUnknownPathsAndOperationsAreNamed(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	for name, r := range map[string]struct {
		method, path, target string
		status               int
		code                 string
	}{
		"path":       {http.MethodGet, "/no/such/path", "", 404, "UnknownOperationException"},
		"method":     {http.MethodPatch, "/things", "", 405, "MethodNotAllowedException"},
		"target":     {http.MethodPost, "/", "Nobody.DoIt", 400, "UnknownOperationException"},
		"operation":  {http.MethodPost, "/", "AWSCognitoIdentityProviderService.DoIt", 400, "UnknownOperationException"},
		"favicon":    {http.MethodGet, "/favicon.ico", "", 404, "UnknownOperationException"},
		"unsigned":   {http.MethodGet, "/things", "", 403, "MissingAuthenticationTokenException"},
		"not signed": {http.MethodGet, "/imprint/traces", "", 403, "MissingAuthenticationTokenException"},
	} {
		header := []string{"Content-Type", "application/x-amz-json-1.1"}
		if r.target != "" {
			header = append(header, "X-Amz-Target", r.target)
		}
		res, body := answer(t, s, r.method, r.path, "{}", header...)
		if code := res.Header.Get("X-Amzn-Errortype"); res.StatusCode != r.status || code != r.code && !strings.Contains(body, r.code) || res.Header.Get("X-Amzn-Requestid") == "" {
			t.Errorf("%s: %d %s %s", name, res.StatusCode, code, body)
		}
	}
}

// wantContinue waits until the server reads the body of a request: then the request is in work.
func wantContinue(t *testing.T, in *bufio.Reader) {
	t.Helper()
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
		if line, err := in.ReadString('\n'); err != nil || line != want {
			t.Fatalf("got %q, %v", line, err)
		}
	}
}

func TestARequestInWorkIsAnsweredWhileTheServerShutsDown(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	nc, err := tls.Dial("tcp", s.ports.https.Addr().String(), &tls.Config{RootCAs: roots(t, s), ServerName: "localhost"})
	noError(t, err)
	defer nc.Close()
	const body = `{"ClientId":"abcdefghijklmnopqrstuvwxyz","AuthFlow":"USER_PASSWORD_AUTH","AuthParameters":{"USERNAME":"a","PASSWORD":"b"}}`
	fmt.Fprintf(nc, "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: AWSCognitoIdentityProviderService.InitiateAuth\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body[:10])
	in := bufio.NewReader(nc)
	wantContinue(t, in)
	closed := make(chan error, 1)
	stopped.Store(s, true)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed <- s.Close(ctx)
	}()
	for { // no new work
		other, err := tls.Dial("tcp", s.ports.https.Addr().String(), &tls.Config{RootCAs: roots(t, s), ServerName: "localhost"})
		if err != nil {
			break
		}
		other.Close()
	}
	fmt.Fprint(nc, body[10:])
	res, err := http.ReadResponse(in, nil)
	noError(t, err)
	res.Body.Close()
	if res.StatusCode != 400 || res.Header.Get("X-Amzn-Errortype") == "" {
		t.Errorf("answered %d %v", res.StatusCode, res.Header)
	}
	noError(t, <-closed)
}

func TestARequestThatNeverEndsIsCutWhenTheGraceIsOver(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	nc, err := tls.Dial("tcp", s.ports.https.Addr().String(), &tls.Config{RootCAs: roots(t, s), ServerName: "localhost"})
	noError(t, err)
	defer nc.Close()
	fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n{")
	in := bufio.NewReader(nc)
	wantContinue(t, in)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped.Store(s, true)
	contains(t, s.Close(ctx), "context canceled")
	if _, err := in.ReadByte(); err == nil {
		t.Error("something was answered")
	}
}

// shifted is a clock that a test can move. By itself it stands still: what has a minute left ends in no test that is slow.
type shifted struct {
	from time.Time
	by   atomic.Int64
}

func (c *shifted) now() time.Time { return c.from.Add(time.Duration(c.by.Load())) }

func TestCredentialsEndWithTheirTime(t *testing.T) {
	t.Parallel()
	clock := shifted{from: time.Now()}
	cfg := quick(folder(t))
	cfg.Clock = clock.now
	s := startServer(t, cfg)
	made := newResidents(t, api(t, s), false)
	ask := func(c client.Credentials, signed time.Time) (*http.Response, string) {
		const body = "Action=GetCallerIdentity&Version=2011-06-15"
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.site.baseURL()+"/", strings.NewReader(body))
		noError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		sigv4.Sign(req, []byte(body), c, "us-east-1", "sts", signed)
		return do(t, s, req)
	}
	admin := client.Credentials{AccessKeyID: s.Env().Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(s.Env().Get("AWS_SECRET_ACCESS_KEY"))}
	u, err := url.Parse(s.site.baseURL() + "/?Action=GetCallerIdentity&Version=2011-06-15")
	noError(t, err)
	presigned := sigv4.Presign(http.MethodGet, u, made.session, "us-east-1", "sts", clock.now(), 10*time.Minute).String()[len(s.site.baseURL()):]
	signed := clock.now()
	for _, step := range []struct {
		after                   time.Duration
		session, presigned, old string // error codes, "" for an answer
	}{
		{0, "", "", ""},
		{9 * time.Minute, "", "", ""},
		{11 * time.Minute, "", "SignatureDoesNotMatch", ""},
		{16 * time.Minute, "", "SignatureDoesNotMatch", "SignatureDoesNotMatch"},
		{59 * time.Minute, "", "SignatureDoesNotMatch", "SignatureDoesNotMatch"},
		{61 * time.Minute, "ExpiredToken", "", "SignatureDoesNotMatch"},
	} {
		clock.by.Store(int64(step.after))
		if res, body := ask(admin, clock.now()); res.StatusCode != 200 {
			t.Errorf("after %v: the administrator's key: %s", step.after, body)
		}
		for what, c := range map[string]struct {
			want string
			ask  func() (*http.Response, string)
		}{
			"session":       {step.session, func() (*http.Response, string) { return ask(made.session, clock.now()) }},
			"old signature": {step.old, func() (*http.Response, string) { return ask(admin, signed) }},
			"presigned":     {step.presigned, func() (*http.Response, string) { return answer(t, s, http.MethodGet, presigned, "") }},
		} {
			res, body := c.ask()
			ok := res.StatusCode == 200
			if step.after > time.Hour && what == "presigned" { // expired in two ways: any refusal
				ok = !ok
			} else if c.want != "" {
				ok = res.StatusCode == 403 && strings.Contains(body, "<Code>"+c.want)
			}
			if !ok {
				t.Errorf("after %v, %s: %d %s", step.after, what, res.StatusCode, body)
			}
		}
	}
}

func TestAccountsSeeNothingOfEachOther(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	home := api(t, s)
	var made struct{ AccountID, AccessKeyID, SecretAccessKey string }
	noError(t, home.REST(t.Context(), "imprint", http.MethodPost, "/imprint/accounts", object{"name": "tenant", "accountId": "111122223333"}, &made))
	tenant := home.As(client.Credentials{AccessKeyID: made.AccessKeyID, Secret: fleet.Secret(made.SecretAccessKey)})
	if arn, err := whoami(t, tenant); err != nil || arn != "arn:aws:iam::111122223333:user/administrator" {
		t.Errorf("the tenant is %q, %v", arn, err)
	}
	noError(t, home.REST(t.Context(), "iot", http.MethodPost, "/things/lamp-1", object{}, nil))
	for path, code := range map[string]string{"/things/lamp-1": "ResourceNotFoundException"} {
		if err := tenant.REST(t.Context(), "iot", http.MethodGet, path, nil, nil); client.Code(err) != code {
			t.Errorf("%s: %v", path, err)
		}
	}
	noError(t, tenant.REST(t.Context(), "iot", http.MethodPost, "/things/lamp-1", object{"attributePayload": object{"attributes": object{"of": "tenant"}}}, nil))
	var thing object
	noError(t, home.REST(t.Context(), "iot", http.MethodGet, "/things/lamp-1", nil, &thing))
	if fmt.Sprint(thing["attributes"]) != "map[]" {
		t.Errorf("the tenant's thing shows: %v", thing)
	}
	err := tenant.REST(t.Context(), "imprint", http.MethodPost, "/imprint/accounts", object{"name": "more"}, nil)
	if client.Code(err) != "AccessDeniedException" {
		t.Errorf("a tenant makes accounts: %v", err)
	}
	if err := home.REST(t.Context(), "imprint", http.MethodPost, "/imprint/accounts", object{"name": "again", "accountId": "111122223333"}, nil); client.Code(err) != "ResourceAlreadyExistsException" {
		t.Errorf("twice: %v", err)
	}
	key, err := CreateAdminKey(t.Context(), s.cfg.Data, "111122223333")
	noError(t, err)
	if arn, err := whoami(t, home.As(client.Credentials{AccessKeyID: key.ID, Secret: key.Secret})); err != nil || arn != "arn:aws:iam::111122223333:user/administrator" {
		t.Errorf("the key of the socket is of %q, %v", arn, err)
	}
}

func TestTheAdministrationSocketGivesKeys(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"short path": "d", "long path": strings.Repeat("a-very-long-name-", 12) + "/" + strings.Repeat("and-another-", 15)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), dir)
			if _, err := CreateAdminKey(t.Context(), dir, ""); !os.IsNotExist(unwrapped(err)) {
				t.Errorf("no folder: %v", err)
			}
			s := startServer(t, quick(dir))
			info, err := os.Stat(filepath.Join(dir, adminSocket))
			noError(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			key, err := CreateAdminKey(t.Context(), dir, "")
			noError(t, err)
			if arn, err := whoami(t, as(t, s, client.Credentials{AccessKeyID: key.ID, Secret: key.Secret})); err != nil || arn != "arn:aws:iam::"+account+":user/administrator" {
				t.Errorf("the key is of %q, %v", arn, err)
			}
			_, err = CreateAdminKey(t.Context(), dir, "999999999999")
			contains(t, err, "999999999999")
			stopServer(t, s)
			if _, err := os.Lstat(filepath.Join(dir, adminSocket)); !os.IsNotExist(err) {
				t.Errorf("the socket is left behind: %v", err)
			}
			if _, err := CreateAdminKey(t.Context(), dir, ""); !os.IsNotExist(unwrapped(err)) {
				t.Errorf("no server: %v", err)
			}
		})
	}
}

// unwrapped is the cause of an error, whatever is around it.
func unwrapped(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
}
