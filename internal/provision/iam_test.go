package provision

import (
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

var _ Permissions = (*iam.Service)(nil)

const (
	trustIoT   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	mayClaim   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:CreateProvisioningClaim","iam:PassRole"],"Resource":"*"}]}`
	mayNothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:DescribeThing","Resource":"*"}]}`
	noAttach   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},{"Effect":"Deny","Action":"iot:AttachThingPrincipal","Resource":"*"}]}`
)

// withIAM gives a fixture the real rules, a user who may make claims, and the provisioning role.
func withIAM(t *testing.T) (*fixture, *iam.Service, *fleet.Caller) {
	t.Helper()
	f := newFixture(t)
	rules := iam.New(iam.Config{Store: f.Store, Sealer: pki.NewSealer([32]byte{2}), Clock: f.Clock})
	f.Permissions = rules
	_, err := rules.CreateUser(t.Context(), here, iam.Entity{Name: "ann", Path: "/"})
	check(t, err)
	check(t, rules.PutInline(t.Context(), here, store.IAMUser, "ann", "claims", mayClaim))
	_, err = rules.CreateRole(t.Context(), here, iam.Entity{Name: "provisioner", Path: "/", Body: iam.Body{Trust: trustIoT}})
	check(t, err)
	check(t, rules.Attach(t.Context(), here, store.IAMRole, "provisioner", "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"))
	ann := &fleet.Caller{Scope: here, Kind: fleet.IAMUser, ARN: here.IAM("user/ann"), Name: "ann", UserID: "AIDAANN"}
	_, err = f.CreateTemplate(t.Context(), ann, NewTemplate{Name: "lamps", Body: lamps, RoleARN: role, Enabled: new(true)})
	check(t, err)
	return f, rules, ann
}

func TestTheManagedPolicyOfAWSSufficesForTheRole(t *testing.T) {
	t.Parallel()
	f, _, ann := withIAM(t)
	c, err := f.CreateClaim(t.Context(), ann, "lamps")
	check(t, err)
	r := f.requester(c.Claim)
	_, err = f.register(r, "lamps", f.certificate(r), "7")
	check(t, err)
}

func TestRightsThatAreTakenAwayEndAClaim(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		take func(*fixture, *iam.Service)
		text string
	}{
		"the role loses an action": {func(f *fixture, rules *iam.Service) {
			check(t, rules.PutInline(t.Context(), here, store.IAMRole, "provisioner", "no", noAttach))
		}, "lacks iot:AttachThingPrincipal on arn:aws:iot:us-east-1:000000000000:cert/"},
		"the role trusts nobody": {func(f *fixture, rules *iam.Service) {
			check(t, rules.SetTrust(t.Context(), here, "provisioner", strings.ReplaceAll(trustIoT, "iot.", "lambda.")))
		}, "cannot be assumed by iot.amazonaws.com"},
		"the installer loses the action": {func(f *fixture, rules *iam.Service) {
			check(t, rules.PutInline(t.Context(), here, store.IAMUser, "ann", "claims", mayNothing))
		}, "may not provision with template"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, rules, ann := withIAM(t)
			claim, err := f.CreateClaim(t.Context(), ann, "lamps")
			check(t, err)
			r := f.requester(claim.Claim)
			cert := f.certificate(r)
			c.take(f, rules)
			_, err = f.register(r, "lamps", cert, "7")
			if m := refused(t, err, CodeAccessDenied); !strings.Contains(m, c.text) {
				t.Errorf("says %q, want %q in it", m, c.text)
			}
		})
	}
}
