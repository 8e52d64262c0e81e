package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestARNsAreMadeAndTakenApart(t *testing.T) {
	t.Parallel()
	s := Scope{"123456789012", "us-east-1"}
	for want, got := range map[string]string{
		"arn:aws:iot:us-east-1:123456789012:thing/lamp": s.IoT("thing", "lamp"),
		"arn:aws:iam::123456789012:role/a/b":            s.IAM("role/a/b"),
		"arn:aws:cognito-idp:us-east-1:123456789012:x":  s.ARN("cognito-idp", "x"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if a, ok := ParseARN(want); !ok || a.String() != want {
			t.Errorf("%s came back as %v, %v", want, a, ok)
		}
	}
	a, _ := ParseARN(s.IoT("topic", "a/b:c"))
	if a.Kind() != "topic" || a.Name() != "a/b:c" || !a.In(s, "iot") || a.In(Scope{"123456789012", "eu-west-1"}, "iot") {
		t.Errorf("%+v", a)
	}
	if foreign, ok := ParseARN("arn:aws-cn:iot:us-east-1:123456789012:thing/lamp"); !ok || foreign.In(s, "iot") {
		t.Errorf("%+v, %v", foreign, ok)
	}
	for _, bad := range []string{"", "arn", "arn:aws:iot", "arn::iot:r:a:x", "urn:aws:iot:r:a:x", "arn:aws:iot:r:a:"} {
		if _, ok := ParseARN(bad); ok {
			t.Errorf("%q was taken for an ARN", bad)
		}
	}
}

func TestSecretsDontShowThemselves(t *testing.T) {
	t.Parallel()
	const s = Secret("hunter2")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "in", struct{ S Secret }{s})
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), fmt.Sprintf("%v", struct{ S Secret }{s}), log.String()} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the secret shows in %q", text)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Error("Reveal hides it too")
	}
}

func TestErrorsSayWhatAndAboutWhat(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	err := fmt.Errorf("creating: %w", &Error{Kind: KindExists, Resource: "thing", Name: "lamp", Msg: "already exists", Err: cause})
	if KindOf(err) != KindExists || !errors.Is(err, &Error{Kind: KindExists}) || errors.Is(err, &Error{Kind: KindNotFound}) || !errors.Is(err, cause) {
		t.Errorf("%v has kind %v", err, KindOf(err))
	}
	if want := `creating: thing "lamp": already exists: disk on fire`; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if KindOf(cause) != KindInternal {
		t.Error("a foreign error is not internal")
	}
}

func TestScopesAreChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		account, region string
		ok              bool
	}{{"000000000000", "us-east-1", true}, {"000000000000", "us-gov-west-1", true}, {"12345", "us-east-1", false}, {"00000000000x", "us-east-1", false},
		{"000000000000", "moon", false}, {"000000000000", "", false}} {
		if _, err := NewScope(c.account, c.region); (err == nil) != c.ok {
			t.Errorf("%s %s: %v", c.account, c.region, err)
		}
	}
}

func TestRandomTextHasItsForm(t *testing.T) {
	t.Parallel()
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for range 100 {
		if u := NewUUID(); !uuid.MatchString(u) {
			t.Fatalf("%s is no UUID of version 4", u)
		}
	}
	if s := RandomString(500, AlphaDigits); len(s) != 500 || strings.Trim(s, AlphaDigits) != "" {
		t.Errorf("%q", s)
	}
}

func TestTopicsAndTheirFilters(t *testing.T) {
	t.Parallel()
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/c", false},
		{"a/b", "a", false},
		{"a/+", "a/b", true},
		{"a/+", "a/b/c", false},
		{"a/+/c", "a//c", true},
		{"a/#", "a/b/c", true},
		{"a/#", "a", false},
		{"#", "a/b", true},
		{"#", "$aws/x", false},
		{"+/x", "$aws/x", false},
		{"$aws/#", "$aws/x", true},
	}
	for _, tt := range tests {
		if err := CheckTopicFilter(tt.filter); err != nil {
			t.Errorf("filter %q: %v", tt.filter, err)
		}
		if err := CheckTopic(tt.topic); err != nil {
			t.Errorf("topic %q: %v", tt.topic, err)
		}
		if got := TopicMatches(tt.filter, tt.topic); got != tt.want {
			t.Errorf("%q selects %q: %v, want %v", tt.filter, tt.topic, got, tt.want)
		}
	}
	for _, filter := range []string{"", "a/b+", "a/#/b", "#a", "a\x00", "a/b/c/d/e/f/g/h/i", strings.Repeat("x", 257)} {
		if CheckTopicFilter(filter) == nil {
			t.Errorf("filter %q is accepted", filter)
		}
	}
	for _, topic := range []string{"", "a/+", "#", "a\x00", "a/b/c/d/e/f/g/h/i", strings.Repeat("x", 257)} {
		if CheckTopic(topic) == nil {
			t.Errorf("topic %q is accepted", topic)
		}
	}
	if err := CheckTopic("$aws/rules/name/a/b/c/d/e/f/g/h"); err != nil {
		t.Errorf("the first three levels of Basic Ingest count: %v", err)
	}
}

func TestUUIDsOfATimeSortByIt(t *testing.T) {
	t.Parallel()
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	at, last := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), ""
	for range 1000 {
		u := NewTimeUUID(at)
		if !uuid.MatchString(u) {
			t.Fatalf("%s is no UUID of version 7", u)
		}
		if u <= last {
			t.Fatalf("%s comes after %s and sorts before it", u, last)
		}
		at, last = at.Add(time.Millisecond), u
	}
	if a, b := NewTimeUUID(at), NewTimeUUID(at); a == b {
		t.Errorf("%s twice", a)
	}
}

func TestAClaimIsRevokedExpiredOrActive(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for want, c := range map[string]Claim{
		ClaimActive:  {Expires: now},
		ClaimExpired: {Expires: now.Add(-time.Nanosecond)},
		ClaimRevoked: {Expires: now.Add(-time.Hour), Revoked: now.Add(-2 * time.Hour)},
	} {
		if got := c.Status(now); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
