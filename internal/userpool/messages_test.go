package userpool

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/store"
)

// waiting is how many messages are owed.
func (w *world) waiting() (n int) {
	w.t.Helper()
	ok(w.t, w.db.View(w.t.Context(), func(tx *store.Tx) (err error) {
		n, err = tx.CountPoolMessages()
		return err
	}))
	return n
}

func (m *mailbox) breaks(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func TestMessagesThatWereAcceptedAreSentWhenDeliveryWorksAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(open)
	app := w.client(p, ClientSettings{}) // hides who exists: nobody hears of a delivery that failed
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	w.mail.breaks(errors.New("no route to mail host"))
	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t)
	w.background.Wait()
	id := w.mail.last(t).ID
	if n := w.mail.count(); n != 1 || w.waiting() != 1 {
		t.Fatalf("%d attempts, %d messages wait", n, w.waiting())
	}
	pauses := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute}
	for i, pause := range pauses {
		w.pass(pause - time.Second)
		ok(t, w.Deliver(ctx))
		if n := w.mail.count(); n != i+1 {
			t.Fatalf("attempt %d came before its time", n)
		}
		w.pass(time.Second)
		ok(t, w.Deliver(ctx))
		if n := w.mail.count(); n != i+2 {
			t.Fatalf("%d attempts after pause %d", n, i+1)
		}
	}
	w.mail.breaks(nil)
	w.pass(8 * time.Minute)
	ok(t, w.Deliver(ctx))
	m := w.mail.last(t)
	if m.ID != id || w.waiting() != 0 {
		t.Errorf("message %s, %d messages wait", m.ID, w.waiting())
	}
	ok(t, w.ConfirmForgotPassword(ctx, w.request(app, "ada"), m.Code, other))
}

func TestMessagesOutliveAStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(open)
	w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
	u := must(w.User(ctx, scope, p.ID, "ada"))(t)
	// The power goes after the commit that made the code valid, before the message is sent.
	ok(t, w.tx(ctx, func(tx *store.Tx) error {
		row, err := tx.PoolUserBySub(scope, p.ID, u.Sub)
		if err != nil {
			return err
		}
		return w.owe(tx, p, newOrder(&row, recovery, "email", "ada@example.com", "123456", w.now(), recoverLife))
	}))
	next := must(New(w.cfg))(t) // the server after the start
	defer next.Close()
	ok(t, next.Deliver(ctx))
	if n := w.mail.count(); n != 0 {
		t.Fatal("it was sent before whoever stored it had a minute to do so")
	}
	w.pass(time.Minute)
	ok(t, next.Deliver(ctx))
	if m := w.mail.last(t); m.Code != "123456" || m.Destination != "ada@example.com" || w.waiting() != 0 {
		t.Errorf("sent %+v, %d wait", m, w.waiting())
	}
}

func TestMessagesThatAreGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.pool(open)
	app, showing := w.client(p, ClientSettings{}), w.client(p, ClientSettings{ShowUnknownUsers: true})
	for _, name := range []string{"ada", "bob", "eve"} {
		w.user(p, name, map[string]string{"email": name + "@example.com", "email_verified": "true"})
	}
	w.mail.breaks(delivery.NewHopeless("no such mailbox"))
	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t)
	w.background.Wait()
	if w.waiting() != 0 {
		t.Error("what was refused for good waits")
	}
	w.mail.breaks(errors.New("no route to mail host"))
	_, err := w.ForgotPassword(ctx, w.request(showing, "ada"))
	wantError(t, err, "CodeDeliveryFailureException", "")
	if w.waiting() != 0 {
		t.Error("what its sender was told of waits")
	}
	must(w.ForgotPassword(ctx, w.request(app, "bob")))(t)
	must(w.ForgotPassword(ctx, w.request(app, "eve")))(t)
	w.background.Wait()
	ok(t, w.DeleteUser(ctx, scope, p.ID, "eve"))
	if w.waiting() != 1 {
		t.Errorf("%d wait after a user was deleted, want 1", w.waiting())
	}
	tried := w.mail.count()
	w.pass(time.Hour) // the code has expired
	ok(t, w.Deliver(ctx))
	if w.waiting() != 0 || w.mail.count() != tried {
		t.Errorf("%d wait, %d attempts after the code expired", w.waiting(), w.mail.count()-tried)
	}
}

func TestTheWordsOfMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s := open
	s.EmailVerificationSubject, s.EmailVerificationMessage, s.SMSVerificationMessage = "Old subject", "Old words {####}", "SMS {####}"
	s.Verification = MessageTemplate{Email: "<b>{username}</b>, your code is {####}", Subject: "New subject"}
	s.Invitation = MessageTemplate{Email: "Welcome {username}: {####}", Subject: "Welcome", SMS: "Hi {username}: {####}"}
	s.Email.ReplyTo = "help@factory.example"
	p := w.pool(s)
	app := w.client(p, ClientSettings{})
	_, _, err := w.signUp(app, "<a href=x>eve</a>", map[string]string{"email": "eve@example.com"})
	ok(t, err)
	m := w.mail.last(t)
	if want := "<b>&lt;a href=x&gt;eve&lt;/a&gt;</b>, your code is " + m.Code.Reveal(); m.Body.Reveal() != want || !m.HTML || m.Subject != "New subject" || m.ReplyTo != "help@factory.example" {
		t.Errorf("%q (HTML %t), %q", m.Body.Reveal(), m.HTML, m.Subject)
	}
	must(w.CreateUser(ctx, scope, p.ID, NewUser{Username: "bob <3", Attributes: map[string]string{"email": "bob@example.com"}, Mediums: []string{"EMAIL"}, TemporaryPassword: good}))(t)
	if m := w.mail.last(t); m.Body.Reveal() != "Welcome bob <3: "+good || m.HTML || m.Subject != "Welcome" {
		t.Errorf("%q (HTML %t), %q", m.Body.Reveal(), m.HTML, m.Subject)
	}
	for _, bad := range []Settings{
		{Invitation: MessageTemplate{Email: "Your password is {####}"}},
		{Invitation: MessageTemplate{SMS: "Your password is {####}"}},
		{Verification: MessageTemplate{Email: "no code"}},
		{Verification: MessageTemplate{Email: "a {####}"}, EmailVerificationMessage: "b"},
	} {
		_, err := w.CreatePool(ctx, scope, "p", bad, nil)
		wantError(t, err, "InvalidParameterException", "")
		if !strings.Contains(err.Error(), "{") {
			t.Errorf("the error does not say what is missing: %v", err)
		}
	}
}

func TestASignUpIsConfirmedByTheLinkInItsMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s := open
	s.Verification = MessageTemplate{ByLink: true, EmailByLink: "Hi {username} & all. {##Verify <me>##}"}
	p := w.pool(s)
	app := w.client(p, ClientSettings{ShowUnknownUsers: true})
	_, _, err := w.signUp(app, "ada", map[string]string{"email": "ada@example.com"})
	wantError(t, err, "CodeDeliveryFailureException", "") // there is nowhere to lead to yet

	site := w.site(p, "plant")
	must(w.ResendCode(ctx, w.request(app, "ada")))(t)
	m := w.mail.last(t)
	link := "https://iot.lan:8443/auth/plant/confirmUser?client_id=" + app.ID + "&amp;confirmation_code=" + m.Code.Reveal() + "&amp;user_name=ada"
	if m.Subject != "Your verification link" || !m.HTML || m.Body.Reveal() != `Hi ada & all. <a href="`+link+`">Verify <me></a>` {
		t.Errorf("the mail is %q, %q", m.Subject, m.Body.Reveal())
	}
	wantError(t, w.ConfirmByLink(ctx, site, app.ID, "ada", "000000x"), "CodeMismatchException", "")
	wantError(t, w.ConfirmByLink(ctx, site, "nobody", "ada", m.Code), "invalid_client", "")
	other := w.site(w.pool(open), "office")
	wantError(t, w.ConfirmByLink(ctx, other, app.ID, "ada", m.Code), "invalid_client", "")
	ok(t, w.ConfirmByLink(ctx, site, app.ID, "ada", m.Code))
	wantError(t, w.ConfirmByLink(ctx, site, app.ID, "ada", m.Code), "NotAuthorizedException", "User cannot be confirmed. Current status is CONFIRMED")
	if got := must(w.User(ctx, scope, p.ID, "ada"))(t); got.Attributes["email_verified"] != "true" {
		t.Errorf("attributes %v", got.Attributes)
	}
	must(w.ForgotPassword(ctx, w.request(app, "ada")))(t) // the operation that ends it takes a code
	if m = w.mail.last(t); m.Body.Reveal() != "Your password reset code is "+m.Code.Reveal() || m.HTML {
		t.Errorf("the mail is %q", m.Body.Reveal())
	}
}

func TestAUserNameIsTextInAMailWithALink(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"Hi {username}, {##go##}":        "Hi &lt;b&gt;eve, <a href=\"L\">go</a>",
		"<i>{username}</i> {##go##}":     "<i>&lt;b&gt;eve</i> <a href=\"L\">go</a>",
		"{username}: {####}":             "&lt;b&gt;eve: <a href=\"L\">L</a>",
		"{##one##} and {##two##} {##end": `<a href="L">one</a> and <a href="L">two</a> {##end`,
	} {
		p := &Pool{Settings: Settings{Verification: MessageTemplate{ByLink: true}}}
		m := p.message(&store.PoolUser{Username: "<b>eve"}, order{Reason: signUpReason, Attribute: "email", Code: "123456"}, wording{body: body})
		if got := withLinks(m.Body.Reveal(), m.HTML, "L"); got != want {
			t.Errorf("%s becomes %s, want %s", body, got, want)
		}
	}
}
