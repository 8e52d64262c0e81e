package rule

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Destinations of http actions (iot-core spec 8.6): nothing is sent to a URL before whoever stands behind it has said yes, by the token
// that was sent there.

const (
	maxDestinations = 1000
	maxURL          = 2000
	confirmTime     = 10 * time.Second
)

// DestinationARN names a destination.
func DestinationARN(s fleet.Scope, id string) string { return s.IoT("ruledestination/http", id) }

// destinationID is the id in the ARN of a destination of the scope.
func destinationID(s fleet.Scope, arn string) (string, error) {
	a, ok := fleet.ParseARN(arn)
	id, http := strings.CutPrefix(a.Resource, "ruledestination/http/")
	if !ok || !http || a.Service != "iot" || id == "" {
		return "", fleet.Invalid("rule destination", arn, "is not the ARN of one: it looks like %s", DestinationARN(s, "ID"))
	}
	if !a.In(s, "iot") {
		return "", noDestination(arn)
	}
	return id, nil
}

func noDestination(arn string) error {
	return fleet.Denied("Access to topic rule destination '%s' was denied", arn).WithCode("UnauthorizedException")
}

// checkURL refuses what nothing can be sent to.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fleet.Invalid("", "", "The url %.100q is no URL: it looks like https://receiver.lan/path", text)
	case u.User != nil || u.Fragment != "":
		return fleet.Invalid("", "", "The url %.100q must have no user name and no fragment", u.Redacted())
	case len(text) > maxURL:
		return fleet.Invalid("", "", "The url has more than %d bytes", maxURL)
	}
	return nil
}

func newToken() (token, hash string) {
	token = fleet.RandomString(43, fleet.AlphaAlnum) // 256 bits
	return token, tokenHash(token)
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// CreateDestination adds a destination for the caller of ctx and sends its token there. Kinds of errors: KindInvalid, KindExists.
func (s *Service) CreateDestination(ctx context.Context, confirmationURL string) (d fleet.RuleDestination, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	if err := checkURL(confirmationURL); err != nil {
		return d, err
	}
	token, hash := newToken()
	id := fleet.NewUUID()
	err = s.Store.Tx(ctx, func(tx *store.Tx) error {
		list, _, err := tx.RuleDestinations(scope, fleet.Page{})
		if err != nil {
			return err
		}
		for _, old := range list {
			if old.URL == confirmationURL {
				return fleet.Exists("", "", "There is a destination for this URL: %s", DestinationARN(scope, old.ID)).With("resourceArn", DestinationARN(scope, old.ID))
			}
		}
		if len(list) >= maxDestinations {
			return fleet.Invalid("rule destination", "", "would be one too many: %d are allowed", maxDestinations)
		}
		d = fleet.RuleDestination{ID: id, URL: confirmationURL, Status: fleet.DestinationInProgress, TokenHash: hash, Created: tx.Now(), Modified: tx.Now()}
		return tx.PutRuleDestination(scope, d)
	})
	if err == nil {
		s.ask(scope, d, token)
	}
	return d, err
}

// ask sends a destination its token, while nobody waits.
func (s *Service) ask(scope fleet.Scope, d fleet.RuleDestination, token string) {
	if !s.enter() {
		return
	}
	s.asking.Go(func() {
		defer s.wg.Done()
		ctx, cancel := context.WithTimeout(s.ctx, confirmTime)
		defer cancel()
		reason := ""
		if err := s.sendToken(ctx, scope, d, token); err != nil {
			reason = fmt.Sprintf("the confirmation request failed: %v", err)
		}
		if err := s.Store.Tx(s.ctx, func(tx *store.Tx) error {
			now, err := tx.RuleDestination(scope, d.ID)
			if err != nil || reason == "" || now.TokenHash != d.TokenHash || now.Status != fleet.DestinationInProgress {
				return nil // it was confirmed, asked again or deleted meanwhile
			}
			now.Status, now.Reason, now.Modified = fleet.DestinationError, reason, tx.Now()
			return tx.PutRuleDestination(scope, now)
		}); err != nil {
			s.Log.Error("noting that a destination cannot be asked", "account", scope.Account, "error", err)
		}
	})
}

func (s *Service) sendToken(ctx context.Context, scope fleet.Scope, d fleet.RuleDestination, token string) error {
	arn := DestinationARN(scope, d.ID)
	body, err := json.Marshal(map[string]string{"arn": arn, "confirmationToken": token, "enableUrl": s.BaseURL + "/confirmdestination/" + token, "messageType": "DestinationConfirmation"})
	if err != nil {
		return err
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return err
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/"
	if u.RawPath != "" { // what is escaped stays so: whoever is asked must be whom rules will call
		u.RawPath = strings.TrimSuffix(u.RawPath, "/") + "/"
	}
	query := u.Query()
	query.Set("confirmationToken", token)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Amz-Rules-Engine-Message-Type", "DestinationConfirmation")
	req.Header.Set("X-Amz-Rules-Engine-Destination-Arn", arn)
	res, err := s.HTTP.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %s", res.Status)
	}
	return nil
}

// withoutURL takes the URL out of an error of net/http: it may hold a token.
func withoutURL(err error) error {
	var about *url.Error
	if errors.As(err, &about) {
		return about.Err
	}
	return err
}

// ConfirmDestination enables the destination that a token was sent to, whoever brings it. It fails with KindDenied.
func (s *Service) ConfirmDestination(ctx context.Context, token string) error {
	hash := tokenHash(token)
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		scope, id, found, err := tx.DestinationOfToken(hash)
		if err != nil {
			return err
		}
		if !found {
			return fleet.Denied("The confirmation token is not valid: it was replaced by a newer one, or its destination deleted").WithCode("UnauthorizedException")
		}
		d, err := tx.RuleDestination(scope, id)
		if err != nil || d.Status != fleet.DestinationInProgress && d.Status != fleet.DestinationError {
			return err // confirmed before
		}
		d.Status, d.Reason, d.Modified = fleet.DestinationEnabled, "", tx.Now()
		return tx.PutRuleDestination(scope, d)
	})
}

// Destination returns a destination by its ARN. It fails with KindDenied if there is none.
func (s *Service) Destination(ctx context.Context, arn string) (d fleet.RuleDestination, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	id, err := destinationID(scope, arn)
	if err != nil {
		return d, err
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		d, err = tx.RuleDestination(scope, id)
		return err
	})
	return d, orNoDestination(err, arn)
}

func orNoDestination(err error, arn string) error {
	if err != nil && fleet.KindOf(err) == fleet.KindNotFound {
		return noDestination(arn)
	}
	return err
}

// Destinations lists destinations by id.
func (s *Service) Destinations(ctx context.Context, p fleet.Page) (list []fleet.RuleDestination, next string, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		list, next, err = tx.RuleDestinations(fleet.CallerFrom(ctx).Scope, p)
		return err
	})
	return list, next, err
}

// UpdateDestination enables a destination that is disabled, disables one that is enabled, or asks any for a new confirmation. Kinds of
// errors: KindDenied if there is none, KindInvalid.
func (s *Service) UpdateDestination(ctx context.Context, arn, status string) error {
	scope := fleet.CallerFrom(ctx).Scope
	id, err := destinationID(scope, arn)
	if err != nil {
		return err
	}
	token, hash := newToken()
	var d fleet.RuleDestination
	err = s.Store.Tx(ctx, func(tx *store.Tx) error {
		if d, err = tx.RuleDestination(scope, id); err != nil {
			return orNoDestination(err, arn)
		}
		switch {
		case status == fleet.DestinationInProgress:
			d.TokenHash = hash
		case status == d.Status: // confirmed by a browser, and then by this, too
		case status == fleet.DestinationEnabled && d.Status == fleet.DestinationDisabled, status == fleet.DestinationDisabled && d.Status == fleet.DestinationEnabled:
		default:
			return fleet.Invalid("rule destination", arn, "is %s and cannot be set to %s; IN_PROGRESS has it confirmed anew", d.Status, status)
		}
		d.Status, d.Reason, d.Modified = status, "", tx.Now()
		return tx.PutRuleDestination(scope, d)
	})
	if err == nil && status == fleet.DestinationInProgress {
		s.ask(scope, d, token)
	}
	return err
}

// DeleteDestination removes a destination; actions that need it fail from then on. It fails with KindDenied if there is none.
func (s *Service) DeleteDestination(ctx context.Context, arn string) error {
	scope := fleet.CallerFrom(ctx).Scope
	id, err := destinationID(scope, arn)
	if err != nil {
		return err
	}
	return s.Store.Tx(ctx, func(tx *store.Tx) error { return orNoDestination(tx.DeleteRuleDestination(scope, id), arn) })
}
