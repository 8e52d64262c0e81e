package conformity

import (
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// refusals are what a stranger is told: the same as of what nobody has.
var refusals = []string{"ResourceNotFoundException", "NoSuchEntity", "AccessDenied", "AccessDeniedException", "ForbiddenException", "UnauthorizedException"}

// otherwise are the operations that answer a stranger in another way, and how: "" is success, in the stranger's own account.
var otherwise = map[attempt]string{
	{"iot", "ListThingRegistrationTaskReports"}: "InvalidRequestException", // the only error that the model declares for it
	{"cognito-identity", "DeleteIdentities"}:    "",                        // idempotent: identities that are not there count as deleted
	{"iam", "SimulateCustomPolicy"}:             "",                        // has no resource
	{"imprint", "DeprovisionThing"}:             "",                        // idempotent
	{"iot", "DeleteBillingGroup"}:               "",                        // idempotent
	{"iot", "DeleteRegistrationCode"}:           "",                        // has no resource
	{"iot", "DeleteThing"}:                      "",                        // idempotent
	{"iot", "DeleteThingGroup"}:                 "",                        // idempotent
	{"iot", "DeleteTopicRule"}:                  "",                        // idempotent
	{"iot", "GetV2LoggingOptions"}:              "NotConfiguredException",  // of the stranger's own
	{"iot", "SetV2LoggingOptions"}:              "InvalidRequestException", // the role belongs to another account
	{"iot", "UpdateEventConfigurations"}:        "",                        // has no resource
	{"iot", "UpdateProvisioningTemplate"}:       "InvalidRequestException", // the role belongs to another account
	{"iotdata", "Publish"}:                      "",                        // to the stranger's own subscribers
	{"sts", "GetAccessKeyInfo"}:                 "ValidationError",
	{"sts", "GetSessionToken"}:                  "",
}

// TestAccountsAreStrangers calls every operation that wants a signature as the administrator of one account with another's
// names, ids and ARNs. Public operations are left out: whoever knows a client's id may sign in there, which is what they are for.
func TestAccountsAreStrangers(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"a tenant and the first account", "the first account and a tenant"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			home := s.administrator()
			made := s.call(home, "imprint", "CreateAccount", object{"name": "tenant", "accountId": "111122223333"})
			other := sigv4.Credentials{AccessKeyID: made.dig("accessKeyId"), Secret: fleet.Secret(made.dig("secretAccessKey"))}
			for _, operation := range []string{"CreateAccount", "ListAccounts"} {
				if got := s.call(other, "imprint", operation, object{"name": "another"}); got.code != "AccessDeniedException" {
					t.Errorf("%s by a tenant: %v", operation, got)
				}
			}
			first, second := "000000000000", "111122223333"
			if direction != "a tenant and the first account" {
				first, second, home, other = second, first, other, home
			}
			b := visitor(s, other, second, second)
			m := meeting{a: newTenant(s, home, first), b: b, mark: ":" + first + ":", settle: func() { b.furnishIAM(); b.furnish() }, otherwise: otherwise,
				among: func(attempt) bool { return true }}
			m.hold(t)
		})
	}
}

// ofTheAccount reports whether an operation is about what an account has in all regions. A registration task names nothing but a role.
func ofTheAccount(at attempt) bool {
	return at.operation == "StartThingRegistrationTask" || at.service == "iam" || at.service == "sts" || at.service == "imprint" && strings.Contains(at.operation, "Account")
}

// TestRegionsAreStrangers does the same with two regions of one account, which share what is the account's.
func TestRegionsAreStrangers(t *testing.T) {
	t.Parallel()
	here := newSite(t, "eu-west-1")
	home, there := here.administrator(), *here
	there.region = "eu-west-1"
	a := newTenant(here, home, "000000000000")
	b := visitor(&there, home, a.account, "eu-west-1")
	b.values = maps.Clone(a.values) // of IAM, until it has its own
	known := maps.Clone(otherwise)
	// Roles are the account's, so IAM lets these pass.
	delete(known, attempt{"iot", "UpdateProvisioningTemplate"})
	known[attempt{"iot", "SetV2LoggingOptions"}] = ""
	known[attempt{"iot", "DetachPolicy"}] = "InvalidRequestException" // the only error that the model declares for it
	m := meeting{a: a, b: b, mark: ":us-east-1:" + a.account + ":", settle: b.furnish, otherwise: known,
		among: func(at attempt) bool { return !ofTheAccount(at) }}
	m.hold(t)
}

// A meeting lets b, the administrator of another account or region, try everything on a. First b has nothing, so that whatever is
// found is a's; then it has the same names, so that what is meant for its own things could hit a's.
type meeting struct {
	a, b      *tenant
	mark      string // stands in ARNs of a's things and in none of b's
	settle    func() // gives b the same names
	otherwise map[attempt]string
	among     func(attempt) bool // what is tried
}

func (m *meeting) hold(t *testing.T) {
	a, b := m.a, m.b
	device := a.connect(t)
	for listed := (attempt{"imprint", "ListTraces"}); !strings.Contains(a.try(a.admin, listed, a.of("imprint")).body, `"kind":"connect"`); { // saved a moment later
		must(t, t.Context().Err())
	}
	before := a.everything()
	for at, got := range before {
		if !got.ok() && at != "imprint ListAccounts" {
			t.Fatalf("%s shows nothing to its owner, so it can prove nothing: %v", at, got)
		}
	}
	unchanged := func(when string) {
		t.Helper()
		for at, now := range a.everything() {
			if now != before[at] {
				t.Errorf("%s %s answers the owner otherwise:\nbefore %v\nafter  %v", when, at, before[at], now)
			}
		}
	}

	ghost, asking := a.ghost(b.account), a.attempts(func(at attempt) bool { return !at.makes() && m.among(at) })
	if len(asking) < 150 {
		t.Errorf("only %d operations were tried", len(asking))
	}
	for _, at := range asking {
		names := a.of(at.service)
		m.wantHidden(t, at, b.try(b.admin, at, ghost.apply(names)), b.try(b.admin, at, names))
	}
	unchanged("after a stranger with nothing has tried everything")

	m.settle()
	keeps := func(at attempt) bool { return m.among(at) && !at.deletes() }
	deletes := func(at attempt) bool { return m.among(at) && at.deletes() }
	for _, round := range []struct {
		names *tenant
		pick  func(attempt) bool
	}{{a, keeps}, {b, keeps}, {a, deletes}, {b, deletes}} {
		for _, at := range a.attempts(round.pick) {
			if got := b.try(b.admin, at, round.names.of(at.service)); strings.Contains(got.body, a.private) {
				t.Errorf("%s shows a stranger what is another's: %v", at, got)
			}
		}
	}
	unchanged("after a stranger with the same names has tried everything")
	// Certificates are public, and one may be registered in several accounts (provisioning spec 7.5); its device stays where it was.
	if got := b.try(b.admin, attempt{"iot", "RegisterCertificateWithoutCA"}, a.of("iot")); !got.ok() {
		t.Errorf("a certificate is not registered in a second account: %v", got)
	}
	a.wantAlive(t, device)
}

// wantHidden checks what a stranger is told of what a has against what is told of what nobody has.
func (m *meeting) wantHidden(t *testing.T, at attempt, none, some answer) {
	t.Helper()
	if none.status != some.status || none.code != some.code {
		t.Errorf("%s tells a stranger whether something is there: %v, and of what is not: %v", at, some, none)
	}
	repeats := at == attempt{"imprint", "ListTraces"} // what the stranger asked for, and that it was refused
	foreign := strings.Contains(some.body, m.a.private) || some.ok() && !repeats && strings.Contains(some.body, m.mark)
	want, known := m.otherwise[at]
	switch {
	case foreign:
		t.Errorf("%s shows a stranger what is another's: %v", at, some)
	case known && some.code == want, at.reads() && some.ok(), slices.Contains(refusals, some.code):
	default:
		t.Errorf("%s, with another account's names: %v", at, some)
	}
}

// connect brings the tenant's device online.
func (a *tenant) connect(t *testing.T) *mqtttest.Client {
	t.Helper()
	nc, err := tls.Dial("tcp", a.mqtt, &tls.Config{RootCAs: a.roots, ServerName: "localhost", Certificates: []tls.Certificate{a.device}})
	must(t, err)
	// It says nothing until all has been tried, which may take longer than its keep-alive of a minute and a half.
	c := mqtttest.New(t, nc, 5).Connected("lamp", func(p *packets.Packet) { p.Connect.Keepalive = 1200 })
	c.Subscribe(topic)
	return c
}

// topic is where the device listens, and where strangers publish, in their own accounts.
const topic = "lamps/lamp"

// wantAlive checks that the tenant's device, session and signed-in person have noticed nothing of all that.
func (a *tenant) wantAlive(t *testing.T, device *mqtttest.Client) {
	t.Helper()
	a.do("iotdata", "Publish", object{"topic": topic, "payload": a.private})
	device.WantMessage(topic, a.private)
	device.Disconnect()
	device = a.connect(t)
	a.do("iotdata", "Publish", object{"topic": topic, "payload": a.private})
	device.WantMessage(topic, a.private)
	if got := a.call(a.session, "sts", "GetCallerIdentity", object{}); !strings.Contains(got.body, ":"+a.account+":") {
		t.Errorf("the session of the owner: %v", got)
	}
	if got := a.call(sigv4.Credentials{}, "cognito-idp", "InitiateAuth", object{"ClientId": a.values["ClientId"], "AuthFlow": "REFRESH_TOKEN_AUTH",
		"AuthParameters": object{"REFRESH_TOKEN": a.refresh}}); !got.ok() {
		t.Errorf("the person who has signed in: %v", got)
	}
}

// An attempt is one call of one operation.
type attempt struct{ service, operation string }

func (at attempt) String() string { return at.service + " " + at.operation }

// attempts are all operations that ask for a signature and that pick chooses, in the order of their names.
func (s *site) attempts(pick func(attempt) bool) (list []attempt) {
	for service, ops := range s.inputs {
		for name, op := range ops {
			if at := (attempt{service, name}); !op.Public && pick(at) {
				list = append(list, at)
			}
		}
	}
	slices.SortFunc(list, func(a, b attempt) int { return strings.Compare(a.String(), b.String()) })
	return list
}

func (at attempt) makes() bool {
	return strings.Contains(at.operation, "Create") || strings.HasPrefix(at.operation, "Register") || at.operation == "PutFunction"
}

func (at attempt) deletes() bool {
	return strings.Contains(at.operation, "Delete") || at.operation == "DeprovisionThing" || at.operation == "ContainClaim"
}

// reads reports whether an operation only looks.
func (at attempt) reads() bool {
	switch at.operation {
	case "GetSessionToken":
		return false
	case "TestAuthorization", "AdminGetUser", "AdminListGroupsForUser":
		return true
	}
	return strings.HasPrefix(at.operation, "Describe") || strings.HasPrefix(at.operation, "List") || strings.HasPrefix(at.operation, "Get")
}

// try does an operation as who with the names of a tenant.
func (a *tenant) try(who sigv4.Credentials, at attempt, names values) answer {
	a.t.Helper()
	svc := a.services[at.service]
	return a.call(who, at.service, at.operation, names.input(a.t, svc, a.inputs[at.service][at.operation]))
}

// everything is all that the tenant can read of itself, by operation.
func (a *tenant) everything() map[string]answer {
	a.t.Helper()
	all := map[string]answer{}
	for _, at := range a.attempts(attempt.reads) {
		all[at.String()] = a.try(a.admin, at, a.of(at.service))
	}
	return all
}

// A ghost renames whatever a tenant has to what nobody has.
type ghost struct{ *strings.Replacer }

func (a *tenant) ghost(visitor string) ghost {
	var pairs []string
	if visitor != a.account {
		pairs = []string{a.account, "555555555555"}
	}
	// Ids before names, which an id may happen to have in it.
	for _, id := range []string{"CertificateId", "CaCertificateId", "TaskId", "UserPoolId", "ClientId", "IdentityPoolId", "IdentityId", "AccessKeyId"} {
		known := a.values[id].(string)
		last := "a"
		if strings.HasSuffix(known, last) {
			last = "b"
		}
		if id == "AccessKeyId" {
			last = strings.ToUpper(last)
		}
		pairs = append(pairs, known, known[:len(known)-1]+last)
	}
	// None can stand in an id in hex.
	names := []string{"alice", "people", "managed", "inline", "lights", "garden", "bulbs", "lamp", "ursula"}
	if visitor != a.account { // who has other roles
		names = append(names, "keeper")
	}
	for _, name := range names {
		pairs = append(pairs, name, "ghost"+name)
	}
	return ghost{strings.NewReplacer(pairs...)}
}

func (g ghost) apply(v values) values {
	out := values{}
	for k, e := range v {
		out[k] = g.rename(e)
	}
	return out
}

func (g ghost) rename(v any) any {
	switch v := v.(type) {
	case string:
		return g.Replace(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = g.rename(v[i])
		}
		return out
	}
	return v
}
