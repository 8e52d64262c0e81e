package iam

import (
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/api/apitest"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/wire"
)

const (
	account = "arn:aws:iam::111122223333:"
	trust   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}}`
	readIoT = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Describe*","Resource":"*"}}`
)

// A world is an account with its administrator, who asks unless a test says otherwise.
type world struct{ *apitest.World }

func newWorld(t *testing.T) world {
	t.Helper()
	t.Parallel()
	return world{apitest.New(t, nil, func(rules *iam.Service) []*wire.Service {
		return []*wire.Service{Service(Config{IAM: rules})}
	})}
}

// ok makes a request that must succeed. call and more are those of apitest's Call.
func (w world) ok(call string, more ...string) apitest.Answer {
	w.Helper()
	return w.as(w.Admin, "", call, more...)
}

// fails makes a request that must be answered by an error code.
func (w world) fails(code, call string, more ...string) apitest.Answer {
	w.Helper()
	return w.as(w.Admin, code, call, more...)
}

func (w world) as(who sigv4.Credentials, code, call string, more ...string) apitest.Answer {
	w.Helper()
	a := w.Call(who, Model.Version, code, call, more...)
	if want := map[string]int{"": 200, "NoSuchEntity": 404, "EntityAlreadyExists": 409, "DeleteConflict": 409, "LimitExceeded": 409,
		"InvalidInput": 400, "MalformedPolicyDocument": 400, "ValidationError": 400, "AccessDenied": 403}[code]; a.Status != want {
		w.Fatalf("%s: status %d, want %d", call, a.Status, want)
	}
	return a
}

// is compares an element of an answer.
func (w world) is(a apitest.Answer, path, want string) {
	w.Helper()
	if got := strings.Join(a.All(path), " "); got != want {
		w.Errorf("%s is %q, want %q in %v", path, got, want, a)
	}
}
