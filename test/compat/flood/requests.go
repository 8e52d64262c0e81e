package flood

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A line is a connection to the HTTPS port that requests follow each other on.
type line struct {
	c    *tls.Conn
	r    *bufio.Reader
	done func()
}

func (w *worker) line() (*line, error) {
	c, done, err := w.secure(w.t.HTTPS, nil, "http/1.1")
	if err != nil {
		return nil, err
	}
	return &line{c, bufio.NewReader(c), done}, nil
}

// ask sends a request and reads the answer.
func (l *line) ask(header, body string) (status int, answer []byte, err error) {
	_ = l.c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(l.c, "%s\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", header, len(body), body); err != nil {
		return 0, nil, err
	}
	res, err := http.ReadResponse(l.r, nil)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if res.Close {
		l.c.Close()
	}
	return res.StatusCode, answer, err
}

// repeat asks on one connection until it is closed or n answers have come. The outcome is that of the last.
func (w *worker) repeat(n int, request func(i int) (header, body string)) outcome {
	l, err := w.line()
	if err != nil {
		return w.failed(err)
	}
	defer l.done()
	for i := range n {
		header, body := request(i)
		status, _, err := l.ask(header, body)
		switch {
		case err != nil:
			return w.failed(err)
		case status == http.StatusTooManyRequests:
			return refused
		}
	}
	return served
}

// badRequest sends requests with a wrong signature, and bodies that are none.
func badRequest(w *worker) outcome {
	return w.repeat(20, func(i int) (string, string) {
		if i%2 == 0 {
			return "GET /things HTTP/1.1\r\nX-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 " +
				"Credential=AKIANOBODYNOBODY/20260101/us-east-1/iot/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("00", 32), ""
		}
		return idp("InitiateAuth"), strings.Repeat("[", 10_000)
	})
}

// largeBody sends most of the largest body that is accepted and keeps the rest.
func largeBody(w *worker) outcome {
	l, err := w.line()
	if err != nil {
		return w.failed(err)
	}
	defer l.done()
	const size = 1 << 20
	if _, err := fmt.Fprintf(l.c, "%s\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", idp("SignUp"), size, strings.Repeat(" ", size-1)); err != nil {
		return w.failed(err)
	}
	res, err := http.ReadResponse(l.r, nil)
	if err != nil {
		return w.failed(err)
	}
	if res.StatusCode == http.StatusTooManyRequests {
		return refused
	}
	return served
}

func idp(operation string) string {
	return "POST / HTTP/1.1\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: AWSCognitoIdentityProviderService." + operation
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // literals of this file
	}
	return string(b)
}

// login begins sign-ins by SRP as many users and ends them with a wrong proof. It computes nothing itself.
func login(w *worker) outcome {
	l, err := w.line()
	if err != nil {
		return w.failed(err)
	}
	defer l.done()
	name := fmt.Sprintf("user-%d", w.number)
	status, answer, err := l.ask(idp("InitiateAuth"), text(map[string]any{"AuthFlow": "USER_SRP_AUTH", "ClientId": w.t.AppID,
		"AuthParameters": map[string]string{"USERNAME": name, "SRP_A": strings.Repeat("5", 768)}}))
	var challenge struct{ ChallengeParameters map[string]string }
	switch {
	case err != nil:
		return w.failed(err)
	case status == http.StatusTooManyRequests:
		return refused
	case status != http.StatusOK || json.Unmarshal(answer, &challenge) != nil:
		panic(fmt.Sprintf("InitiateAuth: %d %s", status, answer)) // then this is no flood of sign-ins
	}
	p := challenge.ChallengeParameters
	status, _, err = l.ask(idp("RespondToAuthChallenge"), text(map[string]any{"ChallengeName": "PASSWORD_VERIFIER", "ClientId": w.t.AppID,
		"ChallengeResponses": map[string]string{"USERNAME": p["USERNAME"], "PASSWORD_CLAIM_SECRET_BLOCK": p["SECRET_BLOCK"],
			"TIMESTAMP": time.Now().UTC().Format("Mon Jan 2 15:04:05 UTC 2006"), "PASSWORD_CLAIM_SIGNATURE": strings.Repeat("A", 43) + "="}}))
	switch {
	case err != nil:
		return w.failed(err)
	case status == http.StatusTooManyRequests:
		return refused
	}
	return served
}

// signUp makes accounts.
func signUp(w *worker) outcome {
	return w.repeat(5, func(int) (string, string) {
		return idp("SignUp"), text(map[string]any{"ClientId": w.t.AppID, "Username": randomID(), "Password": "Flood-pass-1a!"})
	})
}
