package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// callLambda calls Invoke, version 2015-03-31, of an endpoint: AWS Lambda itself, or whatever else speaks it. Requests are signed
// with SigV4, unless the function has no key.
func (s *Service) callLambda(ctx context.Context, f fleet.Function, qualifier string, q request) ([]byte, error) {
	to := strings.TrimSuffix(f.URL, "/") + "/2015-03-31/functions/" + url.PathEscape(f.Remote) + "/invocations"
	if qualifier != "" {
		to += "?Qualifier=" + url.QueryEscape(qualifier)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(q.body))
	if err != nil {
		return nil, wrong("its URL cannot be called")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Amz-Invocation-Type", "RequestResponse")
	if f.AccessKeyID != "" {
		secret, err := s.open(q.scope, f)
		if err != nil {
			return nil, err
		}
		sigv4.Sign(req, q.body, sigv4.Credentials{AccessKeyID: f.AccessKeyID, Secret: fleet.Secret(secret)}, f.Region, "lambda", s.Clock.Now())
	}
	res, answer, err := s.post(req)
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode != http.StatusOK:
		code, _, _ := strings.Cut(res.Header.Get("X-Amzn-Errortype"), ":")
		return nil, byStatus(res.StatusCode, "the endpoint answered %s%s: %s", res.Status, prefixed(" ", clip(code)), q.masked(string(answer)))
	case res.Header.Get("X-Amz-Function-Error") != "":
		return nil, functionError(answer, q)
	}
	return answer, nil
}

// functionError tells what the handler raised, in the shape that Lambda's runtimes give it.
func functionError(answer []byte, q request) error {
	var raised struct{ ErrorType, ErrorMessage string }
	if json.Unmarshal(answer, &raised) != nil {
		return wrong("the function failed: %s", q.masked(string(answer)))
	}
	return Raised{raised.ErrorMessage, fmt.Sprintf("the function failed: %s: %s", q.masked(raised.ErrorType), q.masked(raised.ErrorMessage))}
}
