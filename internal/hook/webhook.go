package hook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// callWebhook sends the event, signed (egress.Sign), under the function's secret.
func (s *Service) callWebhook(ctx context.Context, f fleet.Function, q request) ([]byte, error) {
	secret, err := s.open(q.scope, f)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL, bytes.NewReader(q.body))
	if err != nil {
		return nil, wrong("its URL cannot be called")
	}
	egress.Sign(req, secret, q.body, s.Clock.Now())
	res, answer, err := s.post(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, byStatus(res.StatusCode, "it answered %s: %s", res.Status, q.masked(string(answer)))
	}
	return answer, nil
}

// post sends a request and reads its answer.
func (s *Service) post(req *http.Request) (*http.Response, []byte, error) {
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "imprint")
	res, err := s.HTTP.Do(req)
	if err != nil {
		return nil, nil, failure(req.Context(), err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil {
		err = req.Context().Err() // giving up is a message, too: a server that hears of it may end half an answer as if it were whole
	}
	if err != nil {
		return nil, nil, failure(req.Context(), err)
	}
	if len(answer) > maxAnswer {
		return nil, nil, errAnswerTooLarge
	}
	return res, answer, nil
}

// failure takes the URL out of an error of net/http, which may hold a secret, and tells the end of the deadline from that of the device.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var about *url.Error
	if errors.As(err, &about) {
		err = about.Err
	}
	return noAnswer("it cannot be reached: %w", err)
}

// byStatus makes an error of an HTTP status: those by which a server says that it cannot work count as no answer.
func byStatus(status int, format string, args ...any) error {
	if status >= 500 || status == http.StatusTooManyRequests {
		return noAnswer(format, args...)
	}
	return wrong(format, args...)
}

// origin is a URL without path, query and user.
func origin(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "an unreadable URL"
	}
	return u.Scheme + "://" + u.Host
}
