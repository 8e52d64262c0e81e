package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"pgregory.net/rapid"
)

func TestParseRefusesWithAReason(t *testing.T) {
	st := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	tests := []struct {
		name string
		kind Kind
		doc  string
		want string
	}{
		{"no JSON", IoT, `Version`, "not valid JSON"},
		{"half a document", IoT, `{"Statement":[`, "ends too early"},
		{"two documents", IoT, st(`{"Effect":"Allow","Action":"*","Resource":"*"}`) + "{}", "text after the policy"},
		{"a list", IoT, `[]`, "is a JSON object"},
		{"an unknown element", IoT, `{"Statements":[]}`, `"Statements" is not an element`},
		{"a bad version", IoT, `{"Version":"2017-10-12","Statement":[]}`, "must be version 2012-10-17"},
		{"no statement", IoT, `{"Version":"2012-10-17"}`, "Statement is missing"},
		{"an empty statement list", IoT, `{"Statement":[]}`, "must not be empty"},
		{"a text as statement", IoT, `{"Statement":["x"]}`, "Statement 1 is not a JSON object"},
		{"no effect", IoT, st(`{"Action":"*","Resource":"*"}`), `Effect must be "Allow" or "Deny". (statement 1)`},
		{"an effect in lower case", IoT, st(`{"Effect":"allow","Action":"*","Resource":"*"}`), "Effect must be"},
		{"an effect that is a list", IoT, st(`{"Effect":["Allow"],"Action":"*","Resource":"*"}`), "Effect must be"},
		{"no action", IoT, st(`{"Effect":"Allow","Resource":"*"}`), "must contain actions"},
		{"no actions in the list", IoT, st(`{"Effect":"Allow","Action":[],"Resource":"*"}`), "must contain actions"},
		{"an action without vendor", IoT, st(`{"Effect":"Allow","Action":"Publish","Resource":"*"}`), "must be prefaced by a vendor"},
		{"an action with two colons", IoT, st(`{"Effect":"Allow","Action":"iot:a:b","Resource":"*"}`), "not of the form service:Name"},
		{"Action and NotAction", IoT, st(`{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}`), "not both"},
		{"no resource", IoT, st(`{"Effect":"Allow","Action":"*"}`), "must contain resources"},
		{"a resource that is no ARN", IoT, st(`{"Effect":"Allow","Action":"*","Resource":"topic/x"}`), "must be in ARN format"},
		{"an open variable", IoT, st(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:r:a:topic/${x"}`), `"${" without its "}"`},
		{"a variable in the account", Identity, st(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:r:${aws:PrincipalAccount}:topic/x"}`), "only after the fifth colon"},
		{"a principal in an identity policy", Identity, st(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`), "should not specify a principal"},
		{"a sid with a blank", Identity, st(`{"Sid":"a b","Effect":"Allow","Action":"*","Resource":"*"}`), "must be alpha-numeric"},
		{"a sid twice", Identity, st(`{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}`), "must be unique"},
		{"an element twice", Identity, st(`{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}`), `"Effect" appears twice`},
		{"an unknown operator", Identity, st(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEqual":{"a:b":"c"}}}`), "Invalid Condition type : StringEqual"},
		{"an unknown operator without keys", Identity, st(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEqual":{}}}`), "Invalid Condition type : StringEqual"},
		{"NullIfExists", Identity, st(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NullIfExists":{"a:b":"true"}}}`), "Invalid Condition type"},
		{"a condition key without vendor", Identity, st(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"b":"c"}}}`), `condition key "b" has no prefix`},
		{"a range that is none", Identity, st(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/33"}}}`), "must be an address or a range"},
		{"a number that is none", Identity, st(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NumericEquals":{"a:b":"NaN"}}}`), "must be a number"},
		{"a null value", Identity, st(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"a:b":null}}}`), "are strings, numbers or booleans"},
		{"deep nesting", Identity, strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "nests too deep"},
		{"bad UTF-8", IoT, st("{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"arn:\xff\"}"), "not valid UTF-8"},
		{"a long IoT policy", IoT, st(`{"Effect":"Allow","Action":"*","Resource":"arn:` + strings.Repeat("x", 2048) + `"}`), "too long"},
		{"a trust policy with a resource", Trust, st(`{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}`), "Has prohibited field Resource"},
		{"a trust policy without principal", Trust, st(`{"Effect":"Allow","Action":"sts:AssumeRole"}`), "Missing required field Principal"},
		{"a trust policy with another action", Trust, st(`{"Effect":"Allow","Principal":"*","Action":"iot:Connect"}`), "STS AssumeRole actions"},
		{"a trust policy that allows all but one", Trust, st(`{"Effect":"Allow","NotPrincipal":{"AWS":"1"},"Action":"sts:AssumeRole"}`), "cannot allow NotPrincipal"},
		{"a principal with a wildcard", Trust, st(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/*"},"Action":"sts:AssumeRole"}`), "Invalid principal in policy"},
		{"an unknown sort of principal", Trust, st(`{"Effect":"Allow","Principal":{"User":"ada"},"Action":"sts:AssumeRole"}`), "Invalid principal in policy"},
		{"every service", Trust, st(`{"Effect":"Allow","Principal":{"Service":"*"},"Action":"sts:AssumeRole"}`), "Invalid principal in policy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(tt.doc, tt.kind)
			if !errors.Is(err, &fleet.Error{Kind: fleet.KindMalformedPolicy}) {
				t.Fatalf("got %v, want a malformed policy", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	tests := []struct {
		name string
		kind Kind
		doc  string
	}{
		{"one statement without list", IoT, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`},
		{"an id and an old version", Identity, `{"Version":"2008-10-17","Id":"x","Statement":{"Effect":"Allow","Action":"*:*","Resource":"*"}}`},
		{"an unknown action", IoT, `{"Statement":{"Effect":"Allow","Action":"iot:DoesNotExist","Resource":"*"}}`},
		{"a sid with blanks in an IoT policy", IoT, `{"Statement":[{"Sid":"my statement","Effect":"Allow","Action":"*","Resource":"*"}]}`},
		{"an empty sid twice", Trust, `{"Statement":[{"Sid":"","Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"},{"Sid":"","Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:TagSession"}]}`},
		{"topics with a plain dollar", IoT, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:r:1:topic/$aws/things/x"}}`},
		{"white space that does not count", IoT, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}` + strings.Repeat(" \n", 5000)},
		{"a deny of all but one", Trust, `{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::123456789012:user/a"},"Action":"sts:AssumeRole"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse(tt.doc, tt.kind); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheFirstStatementThatNamesThePrincipalIsReported(t *testing.T) {
	t.Parallel()
	if s := Size("a b\n\tc é"); s != 4 {
		t.Errorf("size %d, want 4", s)
	}
	d := MustParse(`{"Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sts:AssumeRole"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:role/r"},"Action":"sts:AssumeRole"}]}`, Trust)
	got := Evaluate([]Named{{Name: "t", Doc: d}}, Request{Action: "sts:AssumeRole", Principal: Principal{Account: "123456789012", Names: []string{"arn:aws:sts::123456789012:assumed-role/r/s", "arn:aws:iam::123456789012:role/r"}}})
	if got.Statement != 2 || got.Delegated {
		t.Errorf("got %v", got)
	}
}

func TestEvaluateIdentity(t *testing.T) {
	doc := func(effect, action string) []Named {
		return []Named{{Name: effect, Doc: MustParse(`{"Version":"2012-10-17","Statement":{"Effect":"`+effect+`","Action":"`+action+`","Resource":"*"}}`, Identity)}}
	}
	const denied = "User: me is not authorized to perform: iot:X on resource: *"
	tests := []struct {
		name  string
		rules Rules
		want  string // the end of the denial; empty: allowed
	}{
		{"an allowed action", Rules{Policies: doc("Allow", "iot:*")}, ""},
		{"nothing", Rules{}, " because no identity-based policy allows the iot:X action"},
		{"a deny beside an allow", Rules{Policies: append(doc("Allow", "*"), doc("Deny", "iot:X")...)}, " with an explicit deny in an identity-based policy"},
		{"root without policies", Rules{Root: true}, ""},
		{"root with a boundary that denies", Rules{Root: true, Boundary: doc("Deny", "*")}, " with an explicit deny in a permissions boundary"},
		{"a boundary that allows too", Rules{Policies: doc("Allow", "*"), Boundary: doc("Allow", "iot:*")}, ""},
		{"a boundary that allows other things", Rules{Policies: doc("Allow", "*"), Boundary: doc("Allow", "s3:*")}, " because no permissions boundary allows the iot:X action"},
		{"a boundary alone grants nothing", Rules{Boundary: doc("Allow", "*")}, " because no identity-based policy allows the iot:X action"},
		{"an empty boundary", Rules{Policies: doc("Allow", "*"), Boundary: []Named{}}, " because no permissions boundary allows the iot:X action"},
		{"a session policy that narrows", Rules{Policies: doc("Allow", "*"), Session: doc("Allow", "iot:Y")}, " because no session policy allows the iot:X action"},
		{"a session policy that denies", Rules{Policies: doc("Allow", "*"), Session: doc("Deny", "iot:X")}, " with an explicit deny in a sessions policy"},
		{"all three allow", Rules{Policies: doc("Allow", "*"), Boundary: doc("Allow", "*"), Session: doc("Allow", "*")}, ""},
		{"a deny in the boundary beside a missing allow", Rules{Boundary: doc("Deny", "*")}, " with an explicit deny in a permissions boundary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := EvaluateIdentity(tt.rules, Request{Action: "iot:X", Resource: "*"})
			if v.Allowed() != (tt.want == "") {
				t.Fatalf("got %v", v)
			}
			if got := Denial("me", "iot:X", "*", v); tt.want != "" && got != denied+tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Generators of small policies over a small alphabet, so that matches are frequent.
var (
	genAction   = rapid.SampledFrom([]string{"*", "a:*", "a:X", "A:x", "a:?", "b:Y", "a:X*"})
	genResource = rapid.SampledFrom([]string{"*", "arn:aws:a:r:1:x", "arn:aws:a:*:1:x", "arn:aws:a:r:1:${k:v}", "arn:aws:a:*", "arn:aws:a:r:1:*/${k:v, 'x'}", "arn:aws:a:r:1:${*}"})
	genOp       = rapid.SampledFrom([]string{"StringEquals", "StringNotEquals", "StringLike", "ForAllValues:StringNotLike", "ForAnyValue:StringEquals", "StringEqualsIfExists", "ArnLike", "StringNotEqualsIgnoreCase"})
	genValue    = rapid.SampledFrom([]string{"x", "*", "${k:v}", "arn:aws:a:r:1:x", ""})
	genKey      = rapid.SampledFrom([]string{"k:v", "K:W"})
)

func genStatement(effect string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		not := rapid.SampledFrom([]string{"", "", "", "Not"})
		s := fmt.Sprintf(`{"Effect":%q,"%sAction":%q,"%sResource":%q`, effect, not.Draw(t, "na"), genAction.Draw(t, "action"), not.Draw(t, "nr"), genResource.Draw(t, "resource"))
		if rapid.Bool().Draw(t, "conditional") {
			s += fmt.Sprintf(`,"Condition":{%q:{%q:%q}}`, genOp.Draw(t, "op"), genKey.Draw(t, "key"), genValue.Draw(t, "value"))
		}
		return s + "}"
	})
}

func genRequest(t *rapid.T) Request {
	r := Request{
		Action:   rapid.SampledFrom([]string{"a:X", "a:Y", "b:Y"}).Draw(t, "request"),
		Resource: rapid.SampledFrom([]string{"*", "arn:aws:a:r:1:x", "arn:aws:a:r:1:y/x", "arn:aws:a:r:1:*"}).Draw(t, "on"),
		Context:  Context{},
	}
	for _, k := range []string{"k:v", "k:w"} {
		r.Context.Set(k, rapid.SliceOfN(genValue, 0, 2).Draw(t, k)...)
	}
	return r
}

// TestDenyIsMonotone: adding a Deny never permits what was not permitted, and adding an Allow never takes anything away.
func TestDenyIsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]Kind{Identity, IoT}).Draw(t, "kind")
		parse := func(name string, statements []string) Named {
			d, err := Parse(`{"Version":"2012-10-17","Statement":[`+strings.Join(statements, ",")+`]}`, kind)
			if err != nil {
				t.Fatal(err)
			}
			return Named{Name: name, Doc: d}
		}
		base := parse("base", rapid.SliceOfN(rapid.OneOf(genStatement("Allow"), genStatement("Deny")), 1, 4).Draw(t, "base"))
		deny := parse("deny", rapid.SliceOfN(genStatement("Deny"), 1, 2).Draw(t, "deny"))
		allow := parse("allow", rapid.SliceOfN(genStatement("Allow"), 1, 2).Draw(t, "allow"))
		r := genRequest(t)
		before := Evaluate([]Named{base}, r)
		if with := Evaluate([]Named{base, deny}, r); with.Allowed() && !before.Allowed() {
			t.Fatal("a deny permitted the request")
		}
		if with := Evaluate([]Named{base, allow}, r); before.Allowed() && !with.Allowed() {
			t.Fatal("an allow took the permission away")
		}
		if with := Evaluate([]Named{allow, base}, r); before.Decision == ExplicitDeny && with.Decision != ExplicitDeny {
			t.Fatal("an allow overrode a deny")
		}
	})
}

// TestASubstitutedValueMatchesItselfOnly: whatever a client calls itself, topic/${iot:ClientId} is its own topic only.
func TestASubstitutedValueMatchesItselfOnly(t *testing.T) {
	t.Parallel()
	docs := []Named{{Name: "p", Doc: MustParse(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:r:1:topic/${iot:ClientId}"}}`, IoT)}}
	rapid.Check(t, func(t *rapid.T) {
		id, topic := rapid.StringMatching(`[ab*?${}]{1,4}`).Draw(t, "id"), rapid.StringMatching(`[ab*?${}]{1,4}`).Draw(t, "topic")
		got := Evaluate(docs, Request{Action: "iot:Publish", Resource: "arn:aws:iot:r:1:topic/" + topic, Context: Context{"iot:clientid": {id}}}).Allowed()
		if got != (id == topic) {
			t.Fatalf("client %q on topic %q: %v", id, topic, got)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:*"],"Resource":"arn:aws:iot:r:1:topic/${iot:ClientId, 'x'}/*","Condition":{"ForAllValues:StringLike":{"a:b":["c",1,true]}}}]}`,
		`{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":["123456789012"]},"Action":"sts:AssumeRole"}}`,
		`{"Statement":[{"Effect":"Allow","NotAction":"*","NotResource":"*","Condition":{"IpAddress":{"a:b":"::/0"}}}]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		for _, kind := range []Kind{Identity, Trust, IoT, Resource} {
			d, err := Parse(doc, kind)
			if err != nil {
				if fleet.KindOf(err) != fleet.KindMalformedPolicy {
					t.Fatal(err)
				}
				continue
			}
			if len(d.statements) == 0 {
				t.Fatal("a document without statements")
			}
		}
	})
}

func FuzzEvaluate(f *testing.F) {
	f.Add("arn:aws:iot:r:1:topic/${iot:ClientId}/*", "${k:v}", "arn:aws:iot:r:1:topic/a/b", "a", "StringLike")
	f.Add("arn:*?*?*", "*?", "\xff:\xfe", "${", "ForAllValues:ArnNotLikeIfExists")
	f.Fuzz(func(t *testing.T, resource, value, asked, context, op string) {
		doc := fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"a:*","Resource":%q,"Condition":{%q:{"iot:ClientId":%q}}}}`, resource, op, value)
		for _, kind := range []Kind{Identity, IoT} {
			d, err := Parse(doc, kind)
			if err != nil {
				continue
			}
			c := Context{}
			c.Set("iot:ClientId", context)
			c.Set("k:v", asked)
			if Evaluate([]Named{{Name: "d", Doc: d}}, Request{Action: "a:b", Resource: asked, Context: c}).Allowed() {
				t.Fatal("a deny allowed the request")
			}
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	docs := []Named{{Name: "device", Doc: MustParse(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.Thing.ThingName}","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:us-east-1:123456789012:topicfilter/d/${iot:Connection.Thing.ThingName}/*"},
		{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:us-east-1:123456789012:topic/d/${iot:Connection.Thing.ThingName}/*"}]}`, IoT)}}
	c := Context{}
	c.Set(KeyThingName, "pump-000001")
	c.Set(KeyThingIsAttached, "true")
	r := Request{Action: "iot:Publish", Resource: "arn:aws:iot:us-east-1:123456789012:topic/d/pump-000001/telemetry/temperature", Context: c}
	b.ReportAllocs()
	for b.Loop() {
		if !Evaluate(docs, r).Allowed() {
			b.Fatal("denied")
		}
	}
}
