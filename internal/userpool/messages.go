package userpool

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A message is stored in the transaction that makes its code valid, and removed when it was sent: a power cut in between loses nothing,
// though it may send twice. Whoever may know how a delivery went waits for the first attempt and is told; then the message is not tried
// again. All others are answered before, and the message is tried until it is sent, refused for good, or worthless (Deliver).

// Reasons of messages.
const (
	invitation   = "invitation"
	signUpReason = "sign-up"
	recovery     = "recovery"
	verification = "verification"
)

// An order is a message that is owed to a user. It is worded when it is sent.
type order struct {
	ID        string
	Sub       string `json:"-"`
	Reason    string
	Source    string            // of the trigger that may word it: SignUp, ResendCode, …
	Client    string            // that asked for it; empty: an administrator
	Metadata  map[string]string // of whoever asked, for the trigger
	Attribute string            // email or phone_number
	Value     string            // of the attribute; empty: the user has none, and the administrator reads the message
	Code      string
	At        time.Time
	Expires   time.Time `json:"-"`
}

// by says which operation orders a message, for which client; empty: an administrator.
func (o order) by(ctx context.Context, source, client string) order {
	o.Source, o.Client, o.Metadata = source, client, metadataOf(ctx)
	return o
}

// newOrder begins an order to a user at a time; what it carries lives that long.
func newOrder(u *store.PoolUser, reason, attribute, value string, code fleet.Secret, at time.Time, life time.Duration) order {
	return order{ID: fleet.NewUUID(), Sub: u.Sub, Reason: reason, Attribute: attribute, Value: value, Code: code.Reveal(), At: at, Expires: at.Add(life)}
}

func (o order) delivery() CodeDelivery { return deliveryTo(o.Attribute, o.Value) }

// firstTry is how long whoever stored an order has for the first attempt, before Deliver takes it for lost.
const firstTry = time.Minute

// owe stores orders.
func (s *Service) owe(tx *store.Tx, p *Pool, orders ...order) error {
	for _, o := range orders {
		text, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if err := tx.AddPoolMessage(store.PoolMessage{Scope: p.Scope, Pool: p.ID, ID: o.ID, Sub: o.Sub, Due: o.At.Add(firstTry), Expires: o.Expires,
			Content: s.seal("message", text, p.Scope, p.ID, o.ID)}); err != nil {
			return err
		}
	}
	return nil
}

// deliver sends what was owed and answers with the protocol's error if that fails; the cause is logged, never shown. Either way nothing
// is owed any more.
func (s *Service) deliver(ctx context.Context, p *Pool, o order) error {
	err := s.send(ctx, p, o)
	if forgotten := s.forget(ctx, p.Scope, p.ID, o.ID); forgotten != nil {
		s.log.ErrorContext(ctx, "a message may be sent twice", "pool", p.ID, "user", o.Sub, "error", forgotten)
	}
	if err == nil {
		return nil
	}
	if refusedByTrigger(err) {
		return err
	}
	s.log.ErrorContext(ctx, "a message could not be delivered", "pool", p.ID, "user", o.Sub, "reason", o.Reason, "attribute", o.Attribute, "error", err)
	return fail(fleet.KindUnavailable, "CodeDeliveryFailureException",
		"The message could not be delivered. What it announced is stored: ask for it again once delivery works.")
}

// deliverQuietly sends without letting the caller see how long it took or whether it worked, where that would tell whether a user
// exists. With 64 messages on their way the message waits for Deliver, so that a flood cannot pile up.
func (s *Service) deliverQuietly(ctx context.Context, p *Pool, o order) {
	ctx = context.WithoutCancel(ctx)
	select {
	case s.inFlight <- struct{}{}:
		s.background.Go(func() {
			defer func() { <-s.inFlight }()
			m := store.PoolMessage{Scope: p.Scope, Pool: p.ID, ID: o.ID, Sub: o.Sub, Due: o.At.Add(firstTry), Expires: o.Expires}
			s.try(ctx, m, p, o)
		})
	default:
	}
}

// refusedByTrigger reports whether a trigger has answered, and there will be no message.
func refusedByTrigger(err error) bool {
	var e *fleet.Error
	return errors.As(err, &e) && e.Kind == fleet.KindInvalid
}

func (s *Service) forget(ctx context.Context, scope fleet.Scope, pool, id string) error {
	return s.tx(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.DeletePoolMessage(scope, pool, id) })
}

// Times between attempts: doubled by each further one.
const (
	shortestPause = 30 * time.Second
	longestPause  = 15 * time.Minute
	dueAtOnce     = 16
)

// Deliver sends the messages that are due: those whose first attempt failed, or was cut short by a power cut. Call it every few seconds;
// it returns when nothing is due, or with ctx. Several nodes may call it at the same time.
func (s *Service) Deliver(ctx context.Context) error {
	for {
		var due []store.PoolMessage
		if err := s.view(ctx, func(tx *store.Tx) (err error) {
			due, err = tx.DuePoolMessages(s.now(), dueAtOnce)
			return err
		}); err != nil || len(due) == 0 {
			return err
		}
		errs := make([]error, len(due))
		var wg sync.WaitGroup
		for i, m := range due {
			wg.Go(func() { errs[i] = s.retry(ctx, m) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
}

// retry claims a message and tries it once more.
func (s *Service) retry(ctx context.Context, m store.PoolMessage) error {
	if !s.now().Before(m.Expires) {
		s.log.WarnContext(ctx, "a message was given up: what it carried is of no use any more", "pool", m.Pool, "user", m.Sub, "attempts", m.Attempts)
		return s.forget(ctx, m.Scope, m.Pool, m.ID)
	}
	claim := s.now().Add(firstTry)
	var ours bool
	if err := s.tx(ctx, func(tx *store.Tx) (err error) {
		ours, err = tx.DeferPoolMessage(m, claim, m.Attempts)
		return err
	}); err != nil || !ours {
		return err
	}
	m.Due = claim
	p, err := s.poolFor(ctx, m.Scope, m.Pool)
	if isNotFound(err) {
		return s.forget(ctx, m.Scope, m.Pool, m.ID)
	}
	if err != nil {
		return err
	}
	var o order
	text, err := s.open("message", m.Content, m.Scope, m.Pool, m.ID)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		return err
	}
	o.Sub, o.Expires = m.Sub, m.Expires
	s.try(ctx, m, p, o)
	return nil
}

// try sends a message; if that fails it is tried again later, unless it never will work.
func (s *Service) try(ctx context.Context, m store.PoolMessage, p *Pool, o order) {
	err := s.send(ctx, p, o)
	if err != nil && !delivery.Hopeless(err) && !refusedByTrigger(err) && fleet.KindOf(err) != fleet.KindNotFound {
		pause := min(shortestPause<<min(m.Attempts, 10), longestPause)
		s.log.WarnContext(ctx, "a message could not be delivered and is tried again", "pool", m.Pool, "user", m.Sub, "reason", o.Reason,
			"attribute", o.Attribute, "in", pause, "error", err)
		if err = s.tx(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			_, err := tx.DeferPoolMessage(m, s.now().Add(pause), m.Attempts+1)
			return err
		}); err == nil {
			return
		}
	} else {
		if err != nil {
			s.log.ErrorContext(ctx, "a message could not be delivered and was given up", "pool", m.Pool, "user", m.Sub, "reason", o.Reason,
				"attribute", o.Attribute, "error", err)
		}
		err = s.forget(ctx, m.Scope, m.Pool, m.ID)
	}
	if err != nil {
		s.log.ErrorContext(ctx, "a message may be sent twice", "pool", m.Pool, "user", m.Sub, "error", err)
	}
}

// send words a message and hands it over. It fails with KindNotFound if the user is gone.
func (s *Service) send(ctx context.Context, p *Pool, o order) error {
	var u store.PoolUser
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		u, err = tx.PoolUserBySub(p.Scope, p.ID, o.Sub)
		return err
	}); err != nil {
		return err
	}
	words, err := s.customWording(ctx, p, &u, o, p.wording(o))
	if err != nil {
		return err
	}
	m := p.message(&u, o, words)
	if p.linked(o) {
		link, err := s.linkOf(ctx, p, &u, o)
		if err != nil {
			return err
		}
		m.Body, m.HTML = fleet.Secret(withLinks(m.Body.Reveal(), m.HTML, link)), true
	}
	err = s.cfg.Delivery.Send(ctx, m)
	if s.cfg.OnMessage != nil {
		outcome := "sent"
		switch {
		case delivery.Hopeless(err):
			outcome = "refused"
		case err != nil:
			outcome = "failed"
		}
		s.cfg.OnMessage(m.Medium, outcome)
	}
	return err
}

// A wording is what a message says, with {####} for the code and {username} for the user.
type wording struct{ subject, body string }

// wording chooses the pool's words for a message, or ours.
func (p *Pool) wording(o order) wording {
	sms := o.Attribute == "phone_number"
	if o.Reason == invitation {
		w := wording{or(p.Invitation.Subject, "Your temporary password"), or(p.Invitation.Email, "Your username is {username} and temporary password is {####}")}
		if sms {
			w.body = or(p.Invitation.SMS, "Your username is {username} and temporary password is {####}")
		}
		return w
	}
	if p.linked(o) {
		return wording{or(p.Verification.SubjectByLink, "Your verification link"), or(p.Verification.EmailByLink, "Please click the link below to verify your email address. {##Verify Email##}")}
	}
	w := wording{"Your verification code", "Your confirmation code is {####}"}
	if o.Reason == recovery {
		w = wording{"Your password reset code", "Your password reset code is {####}"}
	}
	if sms {
		w.body = or(p.Verification.SMS, p.SMSVerificationMessage, w.body)
		return w
	}
	return wording{or(p.Verification.Subject, p.EmailVerificationSubject, w.subject), or(p.Verification.Email, p.EmailVerificationMessage, w.body)}
}

// message puts code and user name into the words. In a message of HTML the user name, which a stranger may have chosen, is text.
func (p *Pool) message(u *store.PoolUser, o order, w wording) delivery.Message {
	m := delivery.Message{ID: o.ID, Scope: p.Scope, PoolID: p.ID, PoolName: p.Name, Username: u.Username, Sub: u.Sub, Reason: o.Reason, Medium: "EMAIL",
		Destination: o.Value, ReplyTo: p.Email.ReplyTo, Subject: w.subject, Code: fleet.Secret(o.Code), At: o.At, HTML: isHTML(w.body)}
	name := u.Username
	if len(p.UsernameAttributes) > 0 && o.Value != "" { // people of such a pool know themselves by their address
		name = o.Value
	}
	code := o.Code
	if o.Attribute == "phone_number" {
		m.Medium, m.Subject, m.ReplyTo, m.HTML = "SMS", "", "", false
	}
	if m.HTML {
		name, code = html.EscapeString(name), html.EscapeString(code)
	}
	if p.linked(o) {
		code = "{####}" // the link takes its place
	}
	m.Body = fleet.Secret(strings.NewReplacer("{username}", name, "{####}", code).Replace(w.body))
	return m
}

// isHTML reports whether somebody wrote a text as HTML, which AWS takes every mail for.
func isHTML(text string) bool {
	at := strings.IndexByte(text, '<')
	return at >= 0 && strings.IndexByte(text[at:], '>') > 1
}
