package hook

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestFunctionsAreChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const url = "https://hooks.example.com/x"
	for want, n := range map[string]NewFunction{
		"a name has":                     {Function: fleet.Function{Name: "a b", Kind: fleet.Webhook, URL: url}},
		"is not between":                 {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, URL: url, Timeout: time.Minute}},
		"none of webhook":                {Function: fleet.Function{Name: "a", Kind: "shell", URL: url}},
		"is not one like":                {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, URL: "hooks.example.com"}},
		"this machine only":              {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, URL: "http://hooks.example.com"}},
		"must begin with https":          {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, URL: "http://localhost"}}, // a name
		"has a user":                     {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, URL: "https://u:p@hooks.example.com"}},
		"has no query":                   {Function: fleet.Function{Name: "a", Kind: fleet.Lambda, URL: "https://l.example.com/?x"}},
		"at least 16":                    {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, URL: url}, Secret: "short"},
		"only a function of kind lambda": {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, URL: url, AccessKeyID: "A"}},
		"needs its access key":           {Function: fleet.Function{Name: "a", Kind: fleet.Lambda, URL: "https://l.example.com"}, Secret: secret},
		"needs its secret":               {Function: fleet.Function{Name: "a", Kind: fleet.Lambda, URL: "https://l.example.com", AccessKeyID: "A"}},
		"neither URL nor secret":         {Function: fleet.Function{Name: "a", Kind: fleet.Rule, Rule: "true", URL: url}},
		"kind rule has a rule":           {Function: fleet.Function{Name: "a", Kind: fleet.Webhook, Rule: "true", URL: url}},
		"topic()":                        {Function: fleet.Function{Name: "a", Kind: fleet.Rule, Rule: "topic() = 'x'"}},
	} {
		if _, _, err := f.PutFunction(t.Context(), here, n); err == nil || fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", n, err, want)
		}
	}
	if list := f.functions(); len(list) != 0 {
		t.Errorf("stored %+v", list)
	}
}

func (f *fixture) functions() (list []fleet.Function) {
	f.t.Helper()
	must(f.t, f.Store.View(f.t.Context(), func(tx *store.Tx) (err error) {
		list, _, err = tx.Functions(here, fleet.Page{})
		return err
	}))
	return list
}

func TestSecretsAreMadeKeptAndSealed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hookAt := NewFunction{Function: fleet.Function{Name: "check", Kind: fleet.Webhook, URL: f.url}}
	made := f.put(hookAt)
	secretOf := func() string {
		t.Helper()
		b, err := f.open(here, f.functions()[0])
		must(t, err)
		return string(b)
	}
	if len(made) != 43 || secretOf() != made.Reveal() || strings.Contains(string(f.functions()[0].Sealed), made.Reveal()) {
		t.Errorf("made %q", made.Reveal())
	}
	if again := f.put(hookAt); again != "" || secretOf() != made.Reveal() {
		t.Error("a secret is kept unless another is given")
	}
	f.put(NewFunction{Function: hookAt.Function, Secret: secret})
	if secretOf() != secret {
		t.Error("a secret that is given counts")
	}
	moved := f.functions()[0]
	moved.Name = "other"
	if _, err := f.open(here, moved); err == nil {
		t.Error("a secret opens for another function")
	}
	newer := pki.NewSealer([pki.KeySize]byte{2}, [pki.KeySize]byte{1})
	if n, err := Reseal(t.Context(), f.Store, newer); n != 1 || err != nil {
		t.Errorf("sealed %d again, %v", n, err)
	}
	f.Sealer = newer
	if secretOf() != secret || newer.Stale(f.functions()[0].Sealed) {
		t.Error("a secret that was sealed again")
	}
}

func TestATargetMustBeKnown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put(NewFunction{Function: fleet.Function{Name: "rule", Kind: fleet.Rule, Rule: "true"}})
	f.put(NewFunction{Function: fleet.Function{Name: "far", Kind: fleet.Lambda, URL: "https://l.example.com"}})
	for arn, want := range map[string]string{
		here.ARN("lambda", "function:rule"):                   "",
		here.ARN("lambda", "function:far:7"):                  "",
		here.ARN("lambda", "function:rule:7"):                 "the function rule has no version 7: leave :7 out",
		here.ARN("lambda", "function:none"):                   "imprint function put none",
		"arn:aws:lambda:us-east-1:111111111111:function:rule": "of this account and region",
		"arn:aws:lambda:eu-west-1:000000000000:function:rule": "of this account and region",
		here.ARN("sns", "function:rule"):                      "not the ARN of a Lambda function",
		here.ARN("lambda", "layer:rule"):                      "not the ARN of a Lambda function",
	} {
		err := f.Store.View(t.Context(), func(tx *store.Tx) error { return f.Known(tx, here, arn) })
		if want == "" && err != nil || want != "" && (err == nil || fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", arn, err, want)
		}
		if want == "" {
			continue
		}
		e := asked(nil)
		e.TargetARN = arn
		if a, err := f.Invoke(t.Context(), e); err == nil || a.Allow {
			t.Errorf("%s is called: %+v", arn, a)
		}
	}
	must(t, f.DeleteFunction(t.Context(), here, "rule"))
	e := asked(nil)
	e.TargetARN = here.ARN("lambda", "function:rule")
	if a, err := f.Invoke(t.Context(), e); err == nil || !strings.Contains(a.Cure, "imprint function put rule") {
		t.Errorf("a function that was deleted: %+v, %v", a, err)
	}
	if err := f.DeleteFunction(t.Context(), here, "rule"); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("deleted twice: %v", err)
	}
}

func FuzzDecide(f *testing.F) {
	for _, seed := range []string{`{"allowProvisioning":true}`, `{"allowProvisioning":"TRUE","parameterOverrides":{"a":"b"}}`, `{"allowProvisioning":false}`,
		`{"allowProvisioning":true,"parameterOverrides":{"a":1}}`, `[]`, ``, `{"allowProvisioning":true}x`, `{"a":{"b":[1,2,{"c":null}]}}`, `{"allowProvisioning":true,"parameterOverrides":null}`,
		`{"a":1,"a":2}`, "\xff", `{"allowProvisioning"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := decide(body)
		if a.Allow && (err != nil || !json.Valid(body) || !strings.Contains(strings.ToLower(string(body)), "true") && !strings.Contains(string(body), `\u`)) {
			t.Errorf("allowed by %q", body)
		}
		if !a.Allow && len(a.Overrides) > 0 {
			t.Errorf("denied with overrides by %q", body)
		}
	})
}

var _ provision.Hook = (*fixture)(nil)
