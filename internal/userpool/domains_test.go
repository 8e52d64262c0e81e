package userpool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestDomains(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	p, q := w.pool(Settings{}), w.pool(Settings{})
	site := w.site(p, "plant")
	if site.URL != "https://iot.lan:8443/auth/plant" {
		t.Errorf("its address is %s", site.URL)
	}
	custom := Domain{Scope: scope, Name: "auth.example.com", PoolID: p.ID, Custom: true, DomainSettings: DomainSettings{Certificate: "arn:aws:acm:us-east-1:000000000000:certificate/x"}}
	ok(t, w.CreateDomain(ctx, custom))
	if got := must(w.Site(ctx, "auth.example.com", true))(t).URL; got != "https://auth.example.com:8443" {
		t.Errorf("its address is %s", got)
	}
	if _, err := w.Site(ctx, "auth.example.com", false); err == nil {
		t.Error("a host name is a prefix too")
	}
	for name, d := range map[string]Domain{
		"taken": {Name: "plant", PoolID: q.ID}, "a second prefix": {Name: "plant2", PoolID: p.ID}, "a reserved word": {Name: "my-aws", PoolID: q.ID},
		"dots": {Name: "a.b", PoolID: q.ID}, "our own name": {Name: "iot.lan", PoolID: q.ID, Custom: true}, "no host name": {Name: "auth", PoolID: q.ID, Custom: true},
		"this machine": {Name: "a.localhost", PoolID: q.ID, Custom: true},
	} {
		d.Scope = scope
		if err := w.CreateDomain(ctx, d); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	err := w.DeletePool(ctx, scope, p.ID)
	wantError(t, err, "InvalidParameterException", "User pool cannot be deleted. It has a domain configured that should be deleted first.")
	must(w.UpdateDomain(ctx, scope, p.ID, "auth.example.com", DomainSettings{Certificate: "arn:aws:acm:us-east-1:000000000000:certificate/y"}))(t)
	ok(t, w.DeleteDomain(ctx, scope, p.ID, "plant"))
	ok(t, w.DeleteDomain(ctx, scope, p.ID, "auth.example.com"))
	wantError(t, w.DeleteDomain(ctx, scope, p.ID, "plant"), "InvalidParameterException", "No such domain or user pool exists.")
	ok(t, w.DeletePool(ctx, scope, p.ID))
}

// TestAHostNameIsNobodyElses: neither one to which devices of another account come, nor one of the server's beside its host.
func TestAHostNameIsNobodyElses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t, func(c *Config) { c.OwnName = func(host string) bool { return host == "credentials.iot.lan" } })
	p := w.pool(Settings{})
	other := fleet.Scope{Account: "999999999999", Region: scope.Region}
	ok(t, w.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.CreateDomain(other, fleet.DomainConfiguration{Name: "own", Domain: "iot.example.com", Enabled: true})
	}))
	for name, text := range map[string]string{"iot.example.com": "The host name iot.example.com is in use on this server.",
		"credentials.iot.lan": "The host name credentials.iot.lan is this server's own: choose a prefix, or another host name that leads here."} {
		wantError(t, w.CreateDomain(ctx, Domain{Scope: scope, Name: name, PoolID: p.ID, Custom: true}), "InvalidParameterException", text)
	}
}

// TestHostNamesAreFew: all of them are in the certificate that every device gets.
func TestHostNamesAreFew(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	p := w.pool(Settings{})
	fill := func(of fleet.Scope, label string, n int) {
		t.Helper()
		ok(t, w.db.Tx(ctx, func(tx *store.Tx) error {
			for i := range n {
				name := fmt.Sprintf("%s%d.example.com", label, i)
				if err := tx.CreatePoolDomain(store.PoolDomain{Scope: of, Domain: name, Pool: label, Custom: true, Settings: "{}"}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	one := Domain{Scope: scope, Name: "auth.example.com", PoolID: p.ID, Custom: true}
	fill(scope, "ours", 9)
	ok(t, w.CreateDomain(ctx, one))
	q := w.pool(Settings{})
	wantError(t, w.CreateDomain(ctx, Domain{Scope: scope, Name: "more.example.com", PoolID: q.ID, Custom: true}), "LimitExceededException", "")
	ok(t, w.CreateDomain(ctx, Domain{Scope: scope, Name: "prefix", PoolID: q.ID}))
	ok(t, w.DeleteDomain(ctx, scope, p.ID, one.Name))
	fill(fleet.Scope{Account: "999999999999", Region: scope.Region}, "theirs", 91)
	wantError(t, w.CreateDomain(ctx, one), "LimitExceededException", "")
}

func TestAFormTokenIsGoodForOneBrowserAndOnePool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.site(w.pool(Settings{}), "plant"), w.site(w.pool(Settings{}), "office")
	cookie, foreign := w.NewCookie(), w.NewCookie()
	token := must(w.FormToken(one, cookie))(t)
	for name, x := range map[string]struct {
		site   *Site
		cookie fleet.Secret
		token  string
		want   bool
	}{
		"its own": {one, cookie, token, true}, "another browser": {one, foreign, token, false}, "another pool": {two, cookie, token, false},
		"no token": {one, cookie, "", false}, "no cookie": {one, "", token, false}, "no cookie, token of none": {one, "", must(w.FormToken(one, ""))(t), false},
	} {
		if got := must(w.IsFormToken(x.site, x.cookie, x.token))(t); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestLooksReachNoFurtherThanThePage(t *testing.T) {
	t.Parallel()
	for css, want := range map[string]string{
		"": "",
		".banner-customizable { background-color: #FFF; padding: 1px 2px } /* x */ .submitButton-customizable:hover{color:red}": ".banner-customizable{background-color:#FFF;padding:1px 2px;}\n.submitButton-customizable:hover{color:red;}\n",
	} {
		if got := must(ParseLook(css))(t); got != want {
			t.Errorf("%q becomes %q", css, got)
		}
	}
	for _, css := range []string{"body{color:red}", ".x{color:red}", ".label-customizable{color:red", "@import 'x';", ".label-customizable{background:url(https://evil.example)}",
		".label-customizable{background:u\\72l(x)}", ".label-customizable{color:red}</style>", ".label-customizable input[value^=a]{color:red}", ".label-customizable{color}",
		".label-customizable{width:expression(alert(1))}", ".label-customizable{background:URL(x)}"} {
		if out, err := ParseLook(css); err == nil {
			t.Errorf("%s is taken: %s", css, out)
		}
	}
}

func FuzzLook(f *testing.F) {
	f.Add(".banner-customizable{color:red}")
	f.Add("/* x */ .label-customizable:hover { padding: 1px; }")
	f.Add(".label-customizable{background:url(x)}")
	f.Add(".label-customizable{background:URL(x)}")
	f.Add(".label-customizable{color")
	f.Add("@import")
	f.Fuzz(func(t *testing.T, css string) {
		out, err := ParseLook(css)
		if err != nil {
			return
		}
		if strings.ContainsAny(out, "<@\\") || strings.Contains(strings.ToLower(out), "url(") {
			t.Fatalf("%q becomes %q", css, out)
		}
		if again, err := ParseLook(out); err != nil || again != out {
			t.Fatalf("%q is not its own normal form: %q, %v", out, again, err)
		}
	})
}

func FuzzRedirect(f *testing.F) {
	for _, u := range []string{"https://app.example/back?x=y", "http://localhost:3000/", "http://127.0.0.1/", "http://[::1]/", "myapp://back", "com.example.app:/back",
		"http://app.example/", "https://", "https://a@b/", "https://@b/", "https://a/#b", "javascript:alert(1)", "DATA:text/html,x", "/back", "%zz", "https://a b/", "mailto:a@b"} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if badRedirect(text) != "" {
			return
		}
		scheme, rest, ok := strings.Cut(text, ":")
		if !ok || slices.Contains([]string{"javascript", "data", "vbscript", "file"}, strings.ToLower(scheme)) || strings.ContainsAny(text, "# \\\"<>\r\n") {
			t.Fatalf("%q is taken", text)
		}
		authority, isURL := strings.CutPrefix(rest, "//")
		if cut := strings.IndexAny(authority, "/?"); cut >= 0 {
			authority = authority[:cut]
		}
		if isURL && strings.Contains(authority, "@") {
			t.Fatalf("%q has a user", text)
		}
	})
}
