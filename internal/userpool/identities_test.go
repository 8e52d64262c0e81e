package userpool

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// withFederation lets pools have providers; those of these tests are never asked.
func withFederation(c *Config) { c.Federation = federation.New(federation.Config{Clock: c.Clock}) }

// somewhere describes an OpenID Connect provider whose endpoints are given, changed by some details.
func somewhere(name string, change ...string) IdentityProvider {
	d := map[string]string{"client_id": "c", "client_secret": "the secret of the client", "authorize_scopes": "openid", "oidc_issuer": "https://id.example",
		"attributes_request_method": "GET", "authorize_url": "https://id.example/a", "token_url": "https://id.example/t", "jwks_uri": "https://id.example/k"}
	for i := 0; i < len(change); i += 2 {
		d[change[i]] = change[i+1]
	}
	return IdentityProvider{Name: name, Provider: federation.Provider{Type: "OIDC", Details: d, Mapping: map[string]string{"email": "email", "name": "name"}}}
}

func (w *world) provider(p *Pool, i IdentityProvider) *IdentityProvider {
	w.t.Helper()
	return must(w.CreateProvider(context.Background(), scope, p.ID, i))(w.t)
}

// arrives brings somebody from a provider to a client.
func (w *world) arrives(c *Client, i *IdentityProvider, id federation.Identity) (Outcome, error) {
	w.t.Helper()
	ctx := context.Background()
	e := must(w.enter(ctx, c.ID))(w.t)
	return w.admit(ctx, e, arrival{provider: i, identity: id})
}

func somebody(subject string, claims jwt.Claims) federation.Identity {
	return federation.Identity{Subject: subject, Claims: claims}
}

// TestWhereAProviderWouldBeIsNotTold: whoever may name providers must not learn where names lead in the server's own network.
func TestWhereAProviderWouldBeIsNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.Federation = federation.New(federation.Config{HTTP: must(egress.New(egress.Config{}))(t), Clock: c.Clock})
	})
	i := IdentityProvider{Name: "Corp", Provider: federation.Provider{Type: federation.TypeSAML, Details: map[string]string{"MetadataURL": "https://localhost:1/metadata"}}}
	_, err := w.CreateProvider(t.Context(), scope, w.pool(Settings{}).ID, i)
	wantError(t, err, "InvalidParameterException", "The identity provider could not be reached: the SAML metadata at https://localhost:1/metadata")
}

func TestProvidersAreKept(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{})
	asked := somewhere("Corp")
	asked.Identifiers = []string{"corp.example"}
	made := w.provider(p, asked)
	if made.Mapping["username"] != "sub" || made.Details["client_secret"] == "" {
		t.Errorf("made %+v", made)
	}
	ok(t, w.db.View(ctx, func(tx *store.Tx) error {
		row, err := tx.PoolProvider(scope, p.ID, "Corp")
		if text, _ := json.Marshal(row.Details); strings.Contains(string(text), "the secret") || len(row.Secret) == 0 {
			t.Errorf("the secret is stored in plain: %s", text)
		}
		return err
	}))
	if got := must(w.ProviderByIdentifier(ctx, scope, p.ID, "corp.example"))(t); got.Name != "Corp" || got.Details["client_secret"] != "the secret of the client" {
		t.Errorf("by its identifier: %+v", got)
	}
	changed := must(w.UpdateProvider(ctx, scope, p.ID, "Corp", ProviderChange{Mapping: map[string]string{"email": "mail"}}))(t)
	if changed.Mapping["email"] != "mail" || changed.Mapping["name"] != "" || changed.Details["client_id"] != "c" || !slices.Equal(changed.Identifiers, asked.Identifiers) {
		t.Errorf("changed to %+v", changed)
	}
	list, next, err := w.Providers(ctx, scope, p.ID, "", 60)
	ok(t, err)
	if len(list) != 1 || next != "" || list[0].Mapping["email"] != "mail" {
		t.Errorf("the list is %+v, %q", list, next)
	}
	ok(t, w.DeleteProvider(ctx, scope, p.ID, "Corp"))
	_, err = w.Provider(ctx, scope, p.ID, "Corp")
	wantError(t, err, "ResourceNotFoundException", "Identity provider Corp does not exist.")
	_, err = w.ProviderByIdentifier(ctx, scope, p.ID, "corp.example")
	wantError(t, err, "ResourceNotFoundException", "")
	w.provider(p, asked) // nothing is left in the way
	ok(t, w.DeletePool(ctx, scope, p.ID))
	ok(t, w.db.View(ctx, func(tx *store.Tx) error {
		names, err := tx.PoolProviderNames(scope, p.ID)
		if len(names) > 0 {
			t.Errorf("the pool is gone and leaves %v", names)
		}
		return err
	}))
}

func TestProvidersThatAreRefused(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{Schema: []SchemaAttribute{{Name: "score", Type: "String", DeveloperOnly: true, Mutable: true}}})
	first := somewhere("Corp")
	first.Identifiers = []string{"corp.example"}
	w.provider(p, first)
	ok(t, w.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.CreatePoolGroup(scope, p.ID, Group{Name: "roots", RoleARN: forbiddenRole})
	}))
	mapped := func(name, claim string) IdentityProvider {
		i := somewhere("Other")
		i.Mapping = map[string]string{name: claim}
		return i
	}
	twin := somewhere("Other")
	twin.Identifiers = []string{"corp.example"}
	twice := somewhere("Other")
	twice.Identifiers = []string{"a", "a"}
	google := somewhere("Corp2")
	google.Type = "Google"
	for name, c := range map[string]struct {
		i         IdentityProvider
		code, why string
	}{
		"the same name":           {somewhere("Corp"), "DuplicateProviderException", "already exists"},
		"the same but for case":   {somewhere("CORP"), "DuplicateProviderException", "already exists"},
		"an identifier of others": {twin, "DuplicateProviderException", "identifiers"},
		"an identifier twice":     {twice, "InvalidParameterException", "twice"},
		"a social name":           {somewhere("google"), "InvalidParameterException", "reserved"},
		"the pool's own name":     {somewhere("Cognito"), "InvalidParameterException", "reserved"},
		"Google by another name":  {google, "InvalidParameterException", "must be Google"},
		"an underscore":           {somewhere("Co_rp"), "InvalidParameterException", "underscore"},
		"no such attribute":       {mapped("custom:none", "x"), "InvalidParameterException", "custom:none"},
		"the id":                  {mapped("sub", "sub"), "InvalidParameterException", "sub"},
		"a developer's attribute": {mapped("dev:custom:score", "x"), "InvalidParameterException", "developers"},
		"no such group":           {somewhere("Other", "imprint_groups_claim", "g", "imprint_groups", `{"a":"nobody"}`), "InvalidParameterException", "nobody"},
		"a group whose role the caller may not hand out": {somewhere("Other", "imprint_groups_claim", "g", "imprint_groups", `{"a":"roots"}`), "AccessDeniedException", "PassRole"},
		"no issuer": {somewhere("Other", "oidc_issuer", ""), "InvalidParameterException", "oidc_issuer"},
	} {
		_, err := w.CreateProvider(ctx, scope, p.ID, c.i)
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s gave %v", name, err)
			continue
		}
		wantError(t, err, c.code, "")
	}
}

func TestClientsNameProvidersThatThereAre(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{})
	_, err := w.CreateClient(ctx, scope, p.ID, NewClient{Name: "app", ClientSettings: ClientSettings{Providers: []string{"COGNITO", "Corp"}}})
	wantError(t, err, "InvalidParameterException", "The provider Corp does not exist for User Pool "+p.ID+".")
	w.provider(p, somewhere("Corp"))
	c := w.client(p, ClientSettings{Providers: []string{"COGNITO", "Corp"}})
	_, err = w.UpdateClient(ctx, scope, p.ID, c.ID, "", ClientSettings{Providers: []string{"Corp", "Google"}})
	wantError(t, err, "InvalidParameterException", "The provider Google does not exist for User Pool "+p.ID+".")
}

func TestWhoComesFromAProvider(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{AliasAttributes: []string{"email"}})
	i, c := w.provider(p, somewhere("Corp")), w.client(p, ClientSettings{})
	local := w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})

	o := must(w.arrives(c, i, somebody("S1", jwt.Claims{"email": "ada@example.com", "name": "Ada", "admin": true})))(t)
	u := must(w.User(ctx, scope, p.ID, "Corp_S1"))(t)
	if u.Username != "corp_s1" || u.Status != "EXTERNAL_PROVIDER" || u.Attributes["email"] != "ada@example.com" || u.Attributes["email_verified"] != "false" ||
		u.Attributes["name"] != "Ada" || u.Attributes["admin"] != "" || u.Sub == local.Sub {
		t.Errorf("the user is %+v", u)
	}
	if got := must(w.User(ctx, scope, p.ID, "ada@example.com"))(t); got.Sub != local.Sub {
		t.Error("the provider's user has taken the address of the pool's own")
	}
	claims := must(w.VerifyIDToken(ctx, scope, p.ID, o.Tokens.ID.Reveal()))(t)
	if groups := claims.Strings("cognito:groups"); !slices.Equal(groups, []string{p.ID + "_Corp"}) {
		t.Errorf("the groups are %v", groups)
	}
	identities, _ := json.Marshal(claims["identities"])
	if want := `[{"dateCreated":"` + "1793520000000" + `","issuer":null,"primary":"true","providerName":"Corp","providerType":"OIDC","userId":"S1"}]`; string(identities) != want {
		t.Errorf("the token says %s, not %s", identities, want)
	}
	if self, err := w.Self(ctx, o.Tokens.Access); err != nil || self.Sub != u.Sub {
		t.Errorf("the access token is of %+v, %v", self, err)
	}

	// The second time it is the same user, brought up to date.
	w.pass(time.Minute)
	must(w.arrives(c, i, somebody("S1", jwt.Claims{"email": "ada@new.example"})))(t)
	again := must(w.User(ctx, scope, p.ID, "corp_s1"))(t)
	if again.Sub != u.Sub || again.Attributes["email"] != "ada@new.example" || again.Attributes["name"] != "Ada" || !again.Modified.After(u.Modified) {
		t.Errorf("the user is now %+v", again)
	}

	// Another subject that folds to the same name is somebody else.
	_, err := w.arrives(c, i, somebody("s1", nil))
	wantError(t, err, "UsernameExistsException", "")

	ok(t, w.EnableUser(ctx, scope, p.ID, "corp_s1", false))
	_, err = w.arrives(c, i, somebody("S1", nil))
	wantError(t, err, "NotAuthorizedException", "User is disabled.")
	_, err = w.VerifyIDToken(ctx, scope, p.ID, o.Tokens.ID.Reveal())
	wantError(t, err, "NotAuthorizedException", "User is disabled.")

	ok(t, w.DeleteUser(ctx, scope, p.ID, "corp_s1"))
	must(w.arrives(c, i, somebody("s1", nil)))(t) // now the name is free
}

func TestExternalUsersHaveNoPassword(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{Password: PasswordPolicy{History: 3}})
	i := w.provider(p, somewhere("Corp"))
	c, tell := w.client(p, ClientSettings{}), w.client(p, ClientSettings{ShowUnknownUsers: true})
	o := must(w.arrives(c, i, somebody("S1", jwt.Claims{"email": "ada@example.com"})))(t)
	ok(t, w.UpdateUser(ctx, scope, p.ID, "corp_s1", map[string]string{"email_verified": "true"}))
	for _, client := range []*Client{c, tell} {
		for _, password := range []string{good, "x"} {
			_, err := w.signIn(client, "corp_s1", password)
			wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
			w.pass(time.Hour)
			_, err = w.srp(client, "corp_s1", password)
			wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
			w.pass(time.Hour)
		}
	}
	wantError(t, w.SetPassword(ctx, scope, p.ID, "corp_s1", good, true), "NotAuthorizedException", "")
	wantError(t, w.ResetPassword(ctx, scope, p.ID, "corp_s1"), "NotAuthorizedException", "User password cannot be reset in the current state.")
	_, err := w.ForgotPassword(ctx, CodeRequest{ClientID: c.ID, Username: "corp_s1"})
	wantError(t, err, "NotAuthorizedException", "User password cannot be reset in the current state.")
	if err := w.ConfirmForgotPassword(ctx, CodeRequest{ClientID: c.ID, Username: "corp_s1"}, "123456", other); err == nil {
		t.Error("a code without end sets a password")
	}
	o = must(w.arrives(c, i, somebody("S1", nil)))(t)
	wantError(t, w.ChangePassword(ctx, o.Tokens.Access, good, other), "NotAuthorizedException", "")
	wantError(t, w.ConfirmUser(ctx, scope, p.ID, "corp_s1"), "NotAuthorizedException", "User cannot be confirmed. Current status is EXTERNAL_PROVIDER")
	if w.mail.count() != 0 {
		t.Error("something was sent")
	}
}

func TestMappedAttributesObeyTheSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFederation)
	p := w.pool(Settings{Schema: []SchemaAttribute{{Name: "email", Required: true, Mutable: true}, {Name: "badge", Type: "String", Length: &Bounds{"1", "5"}},
		{Name: "lead", Type: "Boolean", Mutable: true}}})
	i := somewhere("Corp")
	i.Mapping = map[string]string{"email": "email", "custom:badge": "badge", "custom:lead": "lead", "email_verified": "email_verified"}
	made, c := w.provider(p, i), w.client(p, ClientSettings{})
	_, err := w.arrives(c, made, somebody("S1", jwt.Claims{"badge": "4711"}))
	wantError(t, err, "InvalidParameterException", "attributes required: [email]")
	must(w.arrives(c, made, somebody("S1", jwt.Claims{"email": "a@b.c", "badge": "4711", "lead": "True", "email_verified": true})))(t)
	if u := must(w.User(t.Context(), scope, p.ID, "corp_s1"))(t); u.Attributes["email_verified"] != "true" || u.Attributes["custom:lead"] != "true" {
		t.Errorf("the user is %v", u.Attributes)
	}
	_, err = w.arrives(c, made, somebody("S1", jwt.Claims{"email": "a@b.c", "badge": "4712"}))
	wantError(t, err, "InvalidParameterException", "Attributes did not conform to the schema: custom:badge: Attribute cannot be updated.")
	_, err = w.arrives(c, made, somebody("S2", jwt.Claims{"email": "a@b.c", "badge": "47111111"}))
	wantError(t, err, "InvalidParameterException", "")
	must(w.arrives(c, made, somebody("S1", jwt.Claims{"email": "a@b.c", "badge": "4711"})))(t) // the same is no change
	reader := w.client(p, ClientSettings{WriteAttributes: []string{"email"}})
	must(w.arrives(reader, made, somebody("S1", jwt.Claims{"badge": "4711", "lead": true})))(t)
	_, err = w.arrives(reader, made, somebody("S1", jwt.Claims{"lead": false}))
	wantError(t, err, "InvalidParameterException", "user.custom:lead: Attribute cannot be updated: the app client may not write it.")
}

func TestGroupsOfAProvider(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{})
	for _, name := range []string{"installers", "leads", "admins"} {
		must(w.CreateGroup(ctx, scope, p.ID, Group{Name: name}))(t)
	}
	i := w.provider(p, somewhere("Corp", "imprint_groups_claim", "groups", "imprint_groups", `{"Factory":"installers","Leads":"leads"}`))
	c := w.client(p, ClientSettings{})
	groups := func(claimed ...any) []string {
		t.Helper()
		o := must(w.arrives(c, i, somebody("S1", jwt.Claims{"groups": claimed, "cognito:groups": []any{"admins"}})))(t)
		got := must(w.VerifyIDToken(ctx, scope, p.ID, o.Tokens.ID.Reveal()))(t).Strings("cognito:groups")
		slices.Sort(got)
		return slices.DeleteFunc(got, func(n string) bool { return n == p.ID+"_Corp" })
	}
	if got := groups("Factory", "admins", "installers"); !slices.Equal(got, []string{"installers"}) {
		t.Errorf("the groups are %v", got)
	}
	ok(t, w.AddToGroup(ctx, scope, p.ID, "corp_s1", "admins"))
	u := must(w.User(ctx, scope, p.ID, "corp_s1"))(t)
	w.pass(time.Minute)
	before := w.clock()
	w.pass(time.Second)
	if got := groups("Leads"); !slices.Equal(got, []string{"admins", "leads"}) {
		t.Errorf("the groups are %v", got)
	}
	if !w.cutOff(p, u.Sub, before) {
		t.Error("credentials live on that came of a lost group")
	}
	ok(t, w.DeleteGroup(ctx, scope, p.ID, "leads"))
	if got := groups("Leads"); !slices.Equal(got, []string{"admins"}) {
		t.Errorf("the groups are %v", got)
	}
}

func TestLinkedUsers(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{})
	i, c := w.provider(p, somewhere("Corp")), w.client(p, ClientSettings{})
	ada := w.user(p, "ada", nil)
	to, from := ProviderUser{Provider: "Cognito", Value: "ada"}, ProviderUser{Provider: "Corp", Attribute: "Cognito_Subject", Value: "S1"}
	ok(t, w.LinkUser(ctx, scope, p.ID, to, from))
	wantError(t, w.LinkUser(ctx, scope, p.ID, to, from), "InvalidParameterException", "Merging is not currently supported, provide a SourceUser that has not been signed up in order to link")
	o := must(w.arrives(c, i, somebody("S1", jwt.Claims{"name": "Ada"})))(t)
	claims := must(w.VerifyIDToken(ctx, scope, p.ID, o.Tokens.ID.Reveal()))(t)
	if claims.String("sub") != ada.Sub || claims.String("name") != "Ada" || claims["identities"] == nil || claims["cognito:groups"] != nil {
		t.Errorf("signed in as %v", claims)
	}
	if _, err := w.signIn(c, "ada", good); err != nil {
		t.Errorf("the password does not count any more: %v", err)
	}
	for _, bad := range []ProviderUser{{"Corp", "email", "a@b.c"}, {"Corp", "Cognito_Subject", ""}, {"None", "Cognito_Subject", "x"}} {
		if err := w.LinkUser(ctx, scope, p.ID, to, bad); err == nil {
			t.Errorf("%+v was linked", bad)
		}
	}
	wantError(t, w.LinkUser(ctx, scope, p.ID, ProviderUser{Provider: "Cognito", Value: "nobody"}, ProviderUser{"Corp", "Cognito_Subject", "S9"}), "UserNotFoundException", "")
	ok(t, w.UnlinkUser(ctx, scope, p.ID, from))
	_, err := w.VerifyIDToken(ctx, scope, p.ID, o.Tokens.ID.Reveal())
	wantError(t, err, "NotAuthorizedException", "Token has been revoked.")
	if u := must(w.User(ctx, scope, p.ID, "ada"))(t); u.Attributes["identities"] != "" {
		t.Errorf("the user is still %v", u.Attributes)
	}
	must(w.arrives(c, i, somebody("S1", nil)))(t)
	if u := must(w.User(ctx, scope, p.ID, "corp_s1"))(t); u.Sub == ada.Sub {
		t.Error("the link is still there")
	}
	if err := w.UnlinkUser(ctx, scope, p.ID, from); err == nil {
		t.Error("a user was parted from the identity that it is")
	}
	wantError(t, w.UnlinkUser(ctx, scope, p.ID, ProviderUser{"Cognito", "", "ada"}), "InvalidParameterException", "")
}

func TestAnAssertionCountsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withFederation)
	p := w.pool(Settings{})
	i, c := w.provider(p, somewhere("Corp")), w.client(p, ClientSettings{})
	id := somebody("S1", nil)
	id.Once, id.Until = "idp\x00a1", w.clock().Add(5*time.Minute)
	must(w.arrives(c, i, id))(t)
	_, err := w.arrives(c, i, id)
	wantError(t, err, "NotAuthorizedException", "The identity provider's answer was used before.")
	ok(t, w.Sweep(t.Context()))
	if _, err := w.arrives(c, i, id); err == nil {
		t.Error("the sweep has forgotten what must be remembered")
	}
}

func TestNamesOfProvidersAreReserved(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t, withFederation)
	p := w.pool(Settings{})
	w.provider(p, somewhere("Corp"))
	_, err := w.CreateUser(ctx, scope, p.ID, NewUser{Username: "corp_s1", Suppress: true})
	wantError(t, err, "InvalidParameterException", "Usernames that begin with corp_ are for users who sign in with that identity provider.")
	w.user(p, "corporal_1", nil)
	if err := w.UpdateUser(ctx, scope, p.ID, "corporal_1", map[string]string{"identities": "[]"}); err == nil {
		t.Error("identities were written by hand")
	}
}

func TestTriggersHearOfExternalUsers(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), &functions{answer: map[string]func(map[string]any) (any, error){}}
	w := newWorld(t, withFederation, func(c *Config) { c.Functions = f })
	p := w.pool(Settings{Triggers: Triggers{PreSignUp: fn("door"), PostConfirmation: fn("hello")}})
	i, c := w.provider(p, somewhere("Corp")), w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	f.answer["door"] = func(map[string]any) (any, error) { return nil, errors.New("nobody from there") }
	if _, err := w.arrives(c, i, somebody("S1", nil)); err == nil {
		t.Error("the trigger was not heard")
	}
	if e := f.last(t); e["triggerSource"] != "PreSignUp_ExternalProvider" || e["userName"] != "corp_s1" {
		t.Errorf("the trigger was asked %v", e)
	}
	_, err := w.User(ctx, scope, p.ID, "corp_s1")
	wantError(t, err, "UserNotFoundException", "")
	f.answer["door"] = func(e map[string]any) (any, error) { // as AWS's samples link people to users who are there
		return e, w.LinkUser(ctx, scope, p.ID, ProviderUser{Provider: "Cognito", Value: "ada"}, ProviderUser{"Corp", "Cognito_Subject", "S1"})
	}
	o := must(w.arrives(c, i, somebody("S1", nil)))(t)
	if claims := must(w.VerifyIDToken(ctx, scope, p.ID, o.Tokens.ID.Reveal()))(t); claims.String("cognito:username") != "ada" {
		t.Errorf("signed in as %v", claims)
	}
	f.sources()
	delete(f.answer, "door")
	must(w.arrives(c, i, somebody("S2", nil)))(t)
	must(w.arrives(c, i, somebody("S2", nil)))(t)
	if got := f.sources(); !slices.Equal(got, []string{"PreSignUp_ExternalProvider", "PostConfirmation_ConfirmSignUp"}) {
		t.Errorf("the triggers heard of %v", got)
	}
}
