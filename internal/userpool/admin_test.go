package userpool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestInvitations(t *testing.T) {
	t.Parallel()
	both := map[string]string{"email": "ada@example.com", "phone_number": "+491701234567"}
	for name, c := range map[string]struct {
		attributes map[string]string
		mediums    []string
		want       []string // medium and destination
	}{
		"by SMS unless said":              {both, nil, []string{"SMS +491701234567"}},
		"by e-mail":                       {both, []string{"EMAIL"}, []string{"EMAIL ada@example.com"}},
		"by both":                         {both, []string{"EMAIL", "SMS"}, []string{"EMAIL ada@example.com", "SMS +491701234567"}},
		"by e-mail where no number is":    {map[string]string{"email": "ada@example.com"}, nil, []string{"EMAIL ada@example.com"}},
		"for the administrator otherwise": {nil, nil, []string{"EMAIL "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.pool(Settings{Invitation: MessageTemplate{SMS: "{username}/{####}"}})
			app := w.client(p, ClientSettings{})
			u := must(w.CreateUser(t.Context(), scope, p.ID, NewUser{Username: "ada", Attributes: c.attributes, Mediums: c.mediums}))(t)
			if u.Status != MustChange || !u.Enabled || u.Attributes["sub"] != u.Sub {
				t.Errorf("user %+v", u)
			}
			var got []string
			for _, m := range w.mail.sent {
				got = append(got, m.Medium+" "+m.Destination)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("sent %v, want %v", got, c.want)
			}
			m := w.mail.last(t)
			if want := "ada/" + m.Code; m.Medium == "SMS" && m.Body != want {
				t.Errorf("body %s", m.Body.Reveal())
			}
			if o := must(w.signIn(app, "ada", m.Code.Reveal()))(t); o.Challenge != "NEW_PASSWORD_REQUIRED" {
				t.Errorf("the password that was sent gives %+v", o)
			}
		})
	}
}

func TestInvitingAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	w.user(p, "done", nil)
	_, err := w.CreateUser(ctx, scope, p.ID, NewUser{Username: "done", Resend: true})
	wantError(t, err, "UnsupportedUserStateException", "")
	_, err = w.CreateUser(ctx, scope, p.ID, NewUser{Username: "nobody", Resend: true})
	wantError(t, err, "UserNotFoundException", "User does not exist.")
}

func TestANewAddressFromAnAdministratorIsVerifiedByItsOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{AutoVerified: []string{"email", "phone_number"}, VerifyFirst: []string{"phone_number"}})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	token := w.tokens(app, "ada").Access
	attribute := func(name string) string { return must(w.User(ctx, scope, p.ID, "ada"))(t).Attributes[name] }
	update := func(changes map[string]string) { t.Helper(); ok(t, w.UpdateUser(ctx, scope, p.ID, "ada", changes)) }

	update(map[string]string{"email": "lovelace@example.com"})
	m := w.mail.last(t)
	if w.mail.count() != 1 || m.Destination != "lovelace@example.com" || m.Reason != verification || attribute("email") != m.Destination || attribute("email_verified") != "false" {
		t.Fatalf("sent %+v, attributes %v", m, must(w.User(ctx, scope, p.ID, "ada"))(t).Attributes)
	}
	ok(t, w.VerifyAttribute(ctx, token, "email", m.Code))
	if attribute("email_verified") != "true" {
		t.Error("the address is not verified")
	}
	update(map[string]string{"email": "lovelace@example.com", "name": "Ada"})                    // the same address
	update(map[string]string{"email": "countess@example.com", "email_verified": "true"})         // the administrator knows it
	update(map[string]string{"phone_number": "+4915112345678", "phone_number_verified": "true"}) // verified first, save for administrators
	if w.mail.count() != 1 || attribute("email_verified") != "true" || attribute("phone_number") != "+4915112345678" {
		t.Errorf("%d messages, attributes %v", w.mail.count(), must(w.User(ctx, scope, p.ID, "ada"))(t).Attributes)
	}
	update(map[string]string{"phone_number": "+4915187654321"})
	if m = w.mail.last(t); m.Medium != "SMS" || m.Destination != "+4915187654321" || attribute("phone_number") != "+4915112345678" {
		t.Errorf("sent %+v, attributes %v", m, must(w.User(ctx, scope, p.ID, "ada"))(t).Attributes)
	}
	ok(t, w.VerifyAttribute(ctx, token, "phone_number", m.Code))
	if attribute("phone_number") != "+4915187654321" || attribute("phone_number_verified") != "true" {
		t.Errorf("attributes %v", must(w.User(ctx, scope, p.ID, "ada"))(t).Attributes)
	}
	w.mail.breaks(errors.New("no mail today"))
	wantError(t, w.UpdateUser(ctx, scope, p.ID, "ada", map[string]string{"email": "ada@example.com"}), "CodeDeliveryFailureException", "")
}

func TestAdministratorsManageUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(open)
	app := w.client(p, ClientSettings{})
	u := w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	ok(t, w.UpdateUser(ctx, scope, p.ID, u.Sub, map[string]string{"name": "Ada", "email": "l@example.com"}))
	got := must(w.User(ctx, scope, p.ID, "ADA"))(t)
	if got.Attributes["name"] != "Ada" || got.Attributes["email_verified"] != "false" || got.Sub != u.Sub {
		t.Errorf("user %+v", got)
	}
	ok(t, w.DeleteUserAttributes(ctx, scope, p.ID, "ada", []string{"email"}))
	if got = must(w.User(ctx, scope, p.ID, "ada"))(t); got.Attributes["email"] != "" || got.Attributes["email_verified"] != "" {
		t.Errorf("user %+v", got)
	}
	wantError(t, w.UpdateUser(ctx, scope, p.ID, "ada", map[string]string{"sub": "x"}), "InvalidParameterException", "Cannot modify the non-mutable attribute sub")
	wantError(t, w.ConfirmUser(ctx, scope, p.ID, "ada"), "NotAuthorizedException", "User cannot be confirmed. Current status is CONFIRMED")
	_, _, err := w.signUp(app, "eve", nil)
	ok(t, err)
	ok(t, w.ConfirmUser(ctx, scope, p.ID, "eve"))
	must(w.signIn(app, "eve", good))(t)
	wantError(t, w.SetPassword(ctx, scope, p.ID, "eve", "weak", true), "InvalidPasswordException", "")
	ok(t, w.SetPassword(ctx, scope, p.ID, "eve", other, false))
	if o := must(w.signIn(app, "eve", other))(t); o.Challenge != "NEW_PASSWORD_REQUIRED" {
		t.Errorf("outcome %+v", o)
	}
	for name, do := range map[string]func() error{
		"get":      func() error { _, err := w.User(ctx, scope, p.ID, "nobody"); return err },
		"delete":   func() error { return w.DeleteUser(ctx, scope, p.ID, "nobody") },
		"disable":  func() error { return w.EnableUser(ctx, scope, p.ID, "nobody", false) },
		"password": func() error { return w.SetPassword(ctx, scope, p.ID, "nobody", good, true) },
		"sign out": func() error { return w.SignOutUser(ctx, scope, p.ID, "nobody") },
		"groups":   func() error { _, _, err := w.GroupsOf(ctx, scope, p.ID, "nobody", "", 0); return err },
		"add":      func() error { return w.AddToGroup(ctx, scope, p.ID, "nobody", "g") },
	} {
		t.Log(name)
		wantError(t, do(), "UserNotFoundException", "User does not exist.")
	}
	foreign := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	_, err = w.User(ctx, foreign, p.ID, "ada")
	wantError(t, err, "ResourceNotFoundException", "User pool "+p.ID+" does not exist.")
}

func TestALockIsLiftedByAnAdministratorsPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	for range 6 {
		_, _ = w.signIn(app, "ada", "wrong")
	}
	_, err := w.signIn(app, "ada", good)
	wantError(t, err, "NotAuthorizedException", "Password attempts exceeded")
	ok(t, w.SetPassword(t.Context(), scope, p.ID, "ada", other, true))
	must(w.signIn(app, "ada", other))(t)
}

func TestListsOfUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	for i := range 7 {
		name := fmt.Sprintf("u%d", i)
		must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: name, Suppress: true, Attributes: map[string]string{
			"email": name + "@example.com", "name": `O"Neil`, "family_name": map[bool]string{true: "even", false: "odd"}[i%2 == 0]}}))(t)
	}
	ok(t, w.SetPassword(ctx, scope, p.ID, "u3", good, true))
	ok(t, w.EnableUser(ctx, scope, p.ID, "u4", false))
	u5 := must(w.User(ctx, scope, p.ID, "u5"))(t)
	for filter, want := range map[string]string{
		``:                                      "u0 u1 u2 u3 u4 u5 u6",
		`username = "u2"`:                       "u2",
		`username ^= "u"`:                       "u0 u1 u2 u3 u4 u5 u6",
		`"username"="U2"`:                       "",
		`email = "u1@example.com"`:              "u1",
		`email ^= "u1"`:                         "u1",
		` family_name  =  "odd" `:               "u1 u3 u5",
		`name = "O\"Neil"`:                      "u0 u1 u2 u3 u4 u5 u6",
		`cognito:user_status = "confirmed"`:     "u3",
		`cognito:user_status ^= "Force"`:        "u0 u1 u2 u4 u5 u6",
		`status = "Disabled"`:                   "u4",
		`status = "disabled"`:                   "",
		`status = "Enabled"`:                    "u0 u1 u2 u3 u5 u6",
		`sub = "` + u5.Sub + `"`:                "u5",
		`sub ^= "` + u5.Sub[:8] + `"`:           "u5",
		`email = "x\" OR \"1\"=\"1"`:            "",
		`phone_number ^= ""`:                    "",
		`email ^= ""`:                           "u0 u1 u2 u3 u4 u5 u6",
		`given_name = "u1"`:                     "",
		`preferred_username = "u1@example.com"`: "",
	} {
		var names []string
		for token := ""; ; {
			users, next, err := w.Users(ctx, scope, p.ID, filter, nil, token, 2)
			ok(t, err)
			for _, u := range users {
				names = append(names, u.Username)
			}
			if token = next; token == "" {
				break
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s lists %q, want %q", filter, got, want)
		}
	}
	users, _, err := w.Users(ctx, scope, p.ID, `username = "u1"`, []string{"email"}, "", 60)
	ok(t, err)
	if len(users) != 1 || len(users[0].Attributes) != 1 {
		t.Errorf("asked for the e-mail only: %v", users)
	}
	_, _, err = w.Users(ctx, scope, p.ID, "", []string{"custom:x"}, "", 60)
	wantError(t, err, "InvalidParameterException", "One or more requested attributes do not exist in user pool.")
	for _, bad := range []string{`username`, `username = u1`, `username = "u1`, `username = "u1" x`, `custom:x = "1"`, `= "x"`, `username == "x"`, `username < "x"`} {
		_, _, err := w.Users(ctx, scope, p.ID, bad, nil, "", 60)
		wantError(t, err, "InvalidParameterException", "")
	}
	for _, token := range []string{"x", "!", pageToken("groups", "u1"), pageToken("users", "")[:0] + "AA"} {
		_, _, err := w.Users(ctx, scope, p.ID, "", nil, token, 60)
		wantError(t, err, "InvalidParameterException", "")
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(Settings{})
	w.user(p, "ada", nil)
	const role = "arn:aws:iam::000000000000:role/installer"
	g := must(w.CreateGroup(ctx, scope, p.ID, Group{Name: "installers", Description: "d", RoleARN: role, Precedence: new(0)}))(t)
	if g.Created.IsZero() || *g.Precedence != 0 {
		t.Errorf("group %+v", g)
	}
	_, err := w.CreateGroup(ctx, scope, p.ID, Group{Name: "installers"})
	wantError(t, err, "GroupExistsException", "A group with the name already exists")
	_, err = w.CreateGroup(ctx, scope, p.ID, Group{Name: "x", RoleARN: forbiddenRole})
	wantError(t, err, "AccessDeniedException", "")
	_, err = w.UpdateGroup(ctx, scope, p.ID, "installers", GroupChange{RoleARN: new(forbiddenRole)})
	wantError(t, err, "AccessDeniedException", "")
	_, err = w.CreateGroup(ctx, scope, p.ID, Group{Name: "x", RoleARN: "arn:aws:iam::111111111111:role/foreign"})
	wantError(t, err, "InvalidParameterException", "")
	must(w.CreateGroup(ctx, scope, p.ID, Group{Name: "z"}))(t)
	for range 2 {
		ok(t, w.AddToGroup(ctx, scope, p.ID, "ada", "installers"))
	}
	groups, _, err := w.GroupsOf(ctx, scope, p.ID, "ada", "", 60)
	ok(t, err)
	members, _, err := w.Members(ctx, scope, p.ID, "installers", "", 60)
	ok(t, err)
	if len(groups) != 1 || groups[0].RoleARN != role || len(members) != 1 || members[0].Username != "ada" {
		t.Errorf("groups %v, members %v", groups, members)
	}
	page, next, err := w.Groups(ctx, scope, p.ID, "", 1)
	ok(t, err)
	rest, end, err := w.Groups(ctx, scope, p.ID, next, 1)
	ok(t, err)
	if page[0].Name != "installers" || rest[0].Name != "z" || end != "" || rest[0].Precedence != nil {
		t.Errorf("pages %v and %v", page, rest)
	}
	for _, err := range []error{w.AddToGroup(ctx, scope, p.ID, "ada", "nothing"), w.DeleteGroup(ctx, scope, p.ID, "nothing"), w.RemoveFromGroup(ctx, scope, p.ID, "ada", "nothing")} {
		wantError(t, err, "ResourceNotFoundException", "Group not found.")
	}
	ok(t, w.RemoveFromGroup(ctx, scope, p.ID, "ada", "installers"))
	ok(t, w.RemoveFromGroup(ctx, scope, p.ID, "ada", "installers"))
	ok(t, w.DeleteGroup(ctx, scope, p.ID, "installers"))
	_, err = w.Group(ctx, scope, p.ID, "installers")
	wantError(t, err, "ResourceNotFoundException", "Group not found.")
}

func TestPreferredRole(t *testing.T) {
	t.Parallel()
	group := func(name, role string, precedence int) Group {
		g := Group{Name: name, RoleARN: role}
		if precedence >= 0 {
			g.Precedence = &precedence
		}
		return g
	}
	for name, c := range map[string]struct {
		groups                  []Group
		names, roles, preferred string
	}{
		"no groups":                        {nil, "", "", ""},
		"one without a role":               {[]Group{group("a", "", 1)}, "a", "", ""},
		"the lowest precedence":            {[]Group{group("a", "A", 2), group("b", "B", 1)}, "b a", "B A", "B"},
		"none ranks last":                  {[]Group{group("a", "A", -1), group("b", "B", 9)}, "b a", "B A", "B"},
		"a tie":                            {[]Group{group("a", "A", 1), group("b", "B", 1)}, "a b", "A B", ""},
		"a tie with one role":              {[]Group{group("a", "A", 1), group("b", "A", 1), group("c", "C", 2)}, "a b c", "A C", "A"},
		"a tie further down":               {[]Group{group("a", "A", 0), group("b", "B", 1), group("c", "C", 1)}, "a b c", "A B C", "A"},
		"without a role ranks nothing":     {[]Group{group("a", "", 0), group("b", "B", 1)}, "a b", "B", "B"},
		"all without precedence":           {[]Group{group("b", "B", -1), group("a", "A", -1)}, "a b", "A B", ""},
		"a single role without precedence": {[]Group{group("b", "B", -1), group("a", "", -1)}, "a b", "B", "B"},
	} {
		names, roles, preferred := groupClaims(c.groups)
		if got := strings.Join(names, " "); got != c.names {
			t.Errorf("%s: names %q, want %q", name, got, c.names)
		}
		if got := strings.Join(roles, " "); got != c.roles || preferred != c.preferred {
			t.Errorf("%s: roles %q %q, want %q %q", name, got, preferred, c.roles, c.preferred)
		}
	}
}

func TestPasswordPolicy(t *testing.T) {
	t.Parallel()
	const prefix = "Password did not conform with policy: Password "
	for password, want := range map[string]string{
		good: "", "P4ss word": "", "Ab1!ef": "not long enough", "p@ssw0rd!1": "must have uppercase characters",
		"P@SSW0RD!1": "must have lowercase characters", "P@ssword!!": "must have numeric characters", "Passw0rd11": "must have symbol characters",
		" Passw0rd11 ": "must have symbol characters", strings.Repeat("Aa1!", 65): "is longer than 256 characters", "Ünïcödé-Pass1": "",
	} {
		err := DefaultPasswordPolicy.check(password)
		if want == "" {
			ok(t, err)
			continue
		}
		wantError(t, err, "InvalidPasswordException", prefix+want)
	}
	for _, n := range []int{6, 8, 40, 99} {
		policy := DefaultPasswordPolicy
		policy.MinLength = n
		for range 50 {
			ok(t, policy.check(policy.generate().Reveal()))
		}
	}
}

func TestMessagesHideTheirSecretsFromLogs(t *testing.T) {
	t.Parallel()
	if text := fmt.Sprintf("%v %+v", delivery.Message{Code: "123456", Body: "code 123456"}, Tokens{Access: "secret", Refresh: "secret"}); strings.Contains(text, "123456") || strings.Contains(text, "secret") {
		t.Errorf("printed %s", text)
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{`username = "x"`, `email ^= "a\"b"`, `"sub"="\\"`, `status = "Enabled"`, `=`, `name ^ = "x"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := parseFilter(text)
		if err == nil && filter.Field != "" && !slices.Contains(filterable, filter.Field) {
			t.Errorf("%q filters by %q", text, filter.Field)
		}
	})
}
