package rule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/rulesql"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// Bounds of an http action (iot-core spec 8.5).
const (
	httpTime   = 3 * time.Second // all tries together
	httpTries  = 3
	maxAnswer  = 16384 // bytes: a server with more to say is not asked again
	maxHeaders = 100

	maxHeaderValue = 8 << 10 // bytes
)

// post sends the result to a URL.
type post struct {
	s       *Service
	url     *rulesql.Text
	confirm string
	headers []userHeader
	sign    *fleet.SignatureV4
}

func (post) name() string { return "HttpAction" }

var (
	headerName  = fleet.NewPattern("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$")
	headerValue = fleet.NewPattern(`^[^\x00-\x08\x0a-\x1f\x7f]*$`)
)

// ownHeaders are set by HTTP itself.
var ownHeaders = map[string]bool{"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "upgrade": true, "te": true, "trailer": true, "keep-alive": true,
	"proxy-authorization": true, "proxy-connection": true, "expect": true}

func (s *Service) prepareHTTP(a *fleet.HTTPAction, v rulesql.Version) (action, error) {
	p := post{s: s, confirm: a.ConfirmationURL, sign: a.Sign}
	templated := strings.Contains(a.URL, "${")
	if p.confirm == "" {
		if templated {
			return nil, fleet.Invalid("http action", a.URL, "has substitution templates and so needs a confirmationUrl that it begins with")
		}
		p.confirm = a.URL
	}
	if err := checkURL(p.confirm); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(a.URL, p.confirm) {
		return nil, fleet.Invalid("http action", a.URL, "must begin with the confirmationUrl %s", p.confirm)
	}
	if len(a.URL) > maxURL || len(a.Headers) > maxHeaders {
		return nil, fleet.Invalid("http action", "", "has a URL of %d bytes and %d headers: at most %d and %d are allowed", len(a.URL), len(a.Headers), maxURL, maxHeaders)
	}
	var err error
	if p.url, err = prepareText("url", a.URL, v); err != nil {
		return nil, err
	}
	for _, h := range a.Headers {
		if !headerName.MatchString(h.Key) || ownHeaders[strings.ToLower(h.Key)] {
			return nil, fleet.Invalid("http action", h.Key, "is no header that a rule may set")
		}
		value, err := prepareText("header "+h.Key, h.Value, v)
		if err != nil {
			return nil, err
		}
		key, _ := rulesql.ParseText(h.Key, v)
		p.headers = append(p.headers, userHeader{key, value})
	}
	return p, nil
}

// within reports whether a URL lies below the one that was confirmed: a value put into it must not lead elsewhere.
func within(text, confirmed string) bool {
	u, err := url.Parse(text)
	base, err2 := url.Parse(confirmed)
	return err == nil && err2 == nil && u.Scheme == base.Scheme && u.Host == base.Host && u.User == nil && strings.HasPrefix(text, confirmed) &&
		!strings.Contains(u.Path+"/", "/../")
}

func (p post) do(ctx context.Context, j *job) (string, error) {
	text, _, err := j.fill(p.url)
	place := shown(text)
	if err != nil {
		return place, err
	}
	if !within(text, p.confirm) {
		return place, fmt.Errorf("the url does not lie below the confirmationUrl %s", shown(p.confirm))
	}
	set, err := p.s.rules(ctx, j.scope)
	if err != nil {
		return place, err
	}
	if status := set.destinations[p.confirm]; status != fleet.DestinationEnabled {
		return place, unconfirmed{p.confirm, status}
	}
	headers := http.Header{}
	headers.Set("Content-Type", "application/octet-stream")
	if j.result.JSON {
		headers.Set("Content-Type", "application/json")
	}
	for _, h := range p.headers {
		value, _, err := j.fill(h.value)
		if err != nil {
			return place, err
		}
		if !headerValue.MatchString(value) || len(value) > maxHeaderValue {
			return place, fmt.Errorf("the value of the header %s cannot be sent", h.key)
		}
		headers.Set(h.key.String(), value)
	}
	ctx, cancel := context.WithTimeout(ctx, httpTime)
	defer cancel()
	for try := 1; ; try++ {
		again, err := p.send(ctx, j, text, headers)
		if err == nil || !again || try == httpTries || !pause(ctx, time.Duration(try)*100*time.Millisecond) {
			return place, err
		}
	}
}

// send posts once. again says that another try may help.
func (p post) send(ctx context.Context, j *job, to string, headers http.Header) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(j.result.Payload))
	if err != nil {
		return false, withoutURL(err)
	}
	req.Header = headers.Clone()
	if p.sign != nil {
		creds, err := p.s.Credentials(ctx, j.scope, p.sign.Role, j.arn)
		if err != nil {
			return false, notPermitted{role: p.sign.Role, error: err}
		}
		sigv4.Sign(req, j.result.Payload, creds, p.sign.Region, p.sign.Service, p.s.Clock.Now())
	}
	res, err := p.s.HTTP.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return false, fmt.Errorf("it gave no answer within %v", httpTime)
		}
		return false, withoutURL(err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer+1))
	if res.StatusCode/100 == 2 {
		return false, nil
	}
	again = err == nil && n <= maxAnswer && (res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500)
	return again, errors.New("it answered " + res.Status)
}

// shown is a URL without its query, which may hold what is secret.
func shown(text string) string {
	text, _, _ = strings.Cut(text, "?")
	return text
}

// unconfirmed says that nothing may be sent to a URL yet.
type unconfirmed struct{ url, status string }

func (u unconfirmed) Error() string {
	if u.status == "" {
		return "there is no destination for " + shown(u.url)
	}
	return "the destination for " + shown(u.url) + " is " + u.status
}
