package iam

import (
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestAWSsPoliciesParseAndGrantWhatTheySay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, arn := range builtinARNs() {
		m, _ := builtin(arn)
		if _, err := policy.Parse(m.Versions[0].Document, policy.Identity); err != nil || policy.Size(m.Versions[0].Document) > policy.MaxManaged {
			t.Errorf("%s: %v, %d characters", arn, err, policy.Size(m.Versions[0].Document))
		}
		if len(m.ID) != 21 {
			t.Errorf("%s has the id %s", arn, m.ID)
		}
	}
	tests := []struct {
		policy, action string
		want           bool
	}{
		{"AdministratorAccess", "iam:CreateUser", true},
		{"AWSIoTFullAccess", "iot:CreateProvisioningClaim", true},
		{"AWSIoTFullAccess", "iam:CreateUser", false},
		{"AWSIoTConfigAccess", "iot:CreateThing", true},
		{"AWSIoTConfigAccess", "iot:CreateProvisioningClaim", false},
		{"AWSIoTConfigAccess", "iot:UpdateThingShadow", false},
		{"AWSIoTConfigReadOnlyAccess", "iot:DescribeThing", true},
		{"AWSIoTConfigReadOnlyAccess", "iot:GetThingShadow", false},
		{"AWSIoTConfigReadOnlyAccess", "iot:CreateThing", false},
		{"AWSIoTDataAccess", "iot:Publish", true},
		{"AWSIoTDataAccess", "iot:CreateThing", false},
		{"AmazonCognitoPowerUser", "cognito-idp:AdminCreateUser", true},
	}
	for _, tt := range tests {
		d := policy.MustParse(builtins()[managedPrefix+tt.policy].Versions[0].Document, policy.Identity)
		if got := policy.Evaluate([]policy.Named{{Doc: d}}, policy.Request{Action: tt.action, Resource: "*"}).Allowed(); got != tt.want {
			t.Errorf("%s: %s is %v", tt.policy, tt.action, got)
		}
	}
	_, err := w.AddVersion(t.Context(), here, managedPrefix+"AdministratorAccess", document("Allow * *"), true)
	w.refused(err, fleet.KindDenied, "")
}

// TestThingsRegistrationIsThatOfTheSpec compares the policy of provisioning roles with provisioning spec 14.3.
func TestThingsRegistrationIsThatOfTheSpec(t *testing.T) {
	t.Parallel()
	want := strings.Fields(`AddThingToThingGroup AttachPolicy AttachPrincipalPolicy AttachThingPrincipal CreateCertificateFromCsr CreatePolicy
		CreateThing DescribeCertificate DescribeThing DescribeThingGroup DescribeThingType DetachPolicy DetachThingPrincipal GetPolicy
		ListAttachedPolicies ListPolicyPrincipals ListPrincipalPolicies ListPrincipalThings ListTargetsForPolicy ListThingGroupsForThing
		ListThingPrincipals RegisterCertificate RegisterThing RemoveThingFromThingGroup UpdateCertificate UpdateThing UpdateThingGroupsForThing
		AddThingToBillingGroup DescribeBillingGroup RemoveThingFromBillingGroup`)
	text := builtins()[managedPrefix+"service-role/AWSIoTThingsRegistration"].Versions[0].Document
	var got []string
	for _, part := range strings.Split(text, `"`) {
		if name, ok := strings.CutPrefix(part, "iot:"); ok {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestBoundariesAreUsesOfAPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arn := here.IAM("policy/team/bound")
	_, err := w.CreatePolicy(t.Context(), here, Entity{Name: "bound", Path: "/team/"}, document("Allow iot:* *"))
	w.ok(err)
	w.role(here, "r", trustAWS(home))
	w.ok(w.SetBoundary(t.Context(), here, store.IAMRole, "r", arn))
	m, err := w.Policy(t.Context(), here, arn)
	w.ok(err)
	if len(m.Bounds) != 1 || m.Bounds[0].Name != "r" || len(m.Attached) != 0 {
		t.Errorf("bounds %v, attached to %v", m.Bounds, m.Attached)
	}
	w.refused(w.DeletePolicy(t.Context(), here, arn), fleet.KindInUse, "Cannot delete a policy attached to entities.")
	w.ok(w.SetBoundary(t.Context(), here, store.IAMRole, "r", ""))
	w.ok(w.DeletePolicy(t.Context(), here, arn))
}

func TestWhatIsInUseIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	ada := w.user(here, "ada", "Allow * *")
	_, err := w.CreateGroup(ctx, here, Entity{Name: "crew"})
	w.ok(err)
	w.ok(w.AddToGroup(ctx, here, "crew", "ada"))
	w.ok(w.Attach(ctx, here, store.IAMUser, "ada", managedPrefix+"AWSIoTFullAccess"))
	del := func() error { return w.Delete(ctx, here, store.IAMUser, "ada") }
	w.refused(del(), fleet.KindInUse, "must delete access keys first")
	w.ok(w.DeleteKey(ctx, here, "ada", ada.AccessKeyID))
	w.refused(del(), fleet.KindInUse, "must detach all policies first")
	w.ok(w.Detach(ctx, here, store.IAMUser, "ada", managedPrefix+"AWSIoTFullAccess"))
	w.refused(del(), fleet.KindInUse, "must delete policies first")
	w.ok(w.DeleteInline(ctx, here, store.IAMUser, "ada", "p"))
	w.refused(w.Delete(ctx, here, store.IAMGroup, "crew"), fleet.KindInUse, "must remove users from group first")
	w.refused(del(), fleet.KindInUse, "must remove users from group first")
	w.ok(w.RemoveFromGroup(ctx, here, "crew", "ada"))
	w.ok(del())
	w.refused(del(), fleet.KindNotFound, "The user with name ada cannot be found.")
	w.ok(w.Delete(ctx, here, store.IAMGroup, "crew"))
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.user(here, "ada")
	_, err := w.CreateKey(ctx, here, "ada")
	w.ok(err)
	_, err = w.CreateKey(ctx, here, "ada")
	w.refused(err, fleet.KindLimit, "Cannot exceed quota for AccessKeysPerUser: 2")
	big := document("Allow iot:" + strings.Repeat("a", 1900) + " *")
	w.ok(w.PutInline(ctx, here, store.IAMUser, "ada", "one", big))
	w.ok(w.PutInline(ctx, here, store.IAMUser, "ada", "one", big)) // replaced, not added
	w.refused(w.PutInline(ctx, here, store.IAMUser, "ada", "two", big), fleet.KindLimit, "Maximum policy size of 2048 bytes exceeded for user ada")
	_, err = w.CreatePolicy(ctx, here, Entity{Name: "big"}, document("Allow iot:"+strings.Repeat("a", 6200)+" *"))
	w.refused(err, fleet.KindLimit, "Cannot exceed quota for PolicySize: 6144")
	arn := here.IAM("policy/p")
	_, err = w.CreatePolicy(ctx, here, Entity{Name: "p"}, document("Allow iot:* *"))
	w.ok(err)
	for range 4 {
		_, err = w.AddVersion(ctx, here, arn, document("Allow iot:* *"), false)
		w.ok(err)
	}
	_, err = w.AddVersion(ctx, here, arn, document("Allow iot:* *"), false)
	w.refused(err, fleet.KindLimit, "A managed policy can have up to 5 versions.")
	w.refused(w.DeleteVersion(ctx, here, arn, 1), fleet.KindInUse, "Cannot delete the default version of a policy.")
	w.ok(w.DeleteVersion(ctx, here, arn, 5))
	v, err := w.AddVersion(ctx, here, arn, document("Allow iot:* *"), true)
	w.ok(err)
	if v.Version != 6 {
		t.Errorf("version %d: an id was used again", v.Version)
	}
	_, err = w.CreateRole(ctx, here, Entity{Name: "r", Body: Body{Trust: document("Allow * *")}})
	w.refused(err, fleet.KindMalformedPolicy, "")
}

func TestNamesDifferByMoreThanCase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.user(here, "ada")
	_, err := w.CreateUser(t.Context(), here, Entity{Name: "ADA"})
	w.refused(err, fleet.KindExists, "User with name ADA already exists.")
	w.user(there, "ADA") // another account's names are its own
}

func TestARenamedUserKeepsWhatWasGranted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow iot:* *")
	w.ok(w.Rename(t.Context(), here, store.IAMUser, "ada", "ida", "/crew/"))
	c := w.caller(ada.AccessKeyID, "")
	if c.ARN != "arn:aws:iam::111111111111:user/crew/ida" || c.UserID != ada.UserID {
		t.Errorf("caller %+v", c)
	}
	w.ok(w.can(c, "iot:ListThings", "*"))
	w.user(here, "ada")
	w.refused(w.can(w.caller(ada.AccessKeyID, ""), "iam:ListUsers", "*"), fleet.KindDenied, "user/crew/ida")
}

func TestTheAdministratorMayEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, _, err := w.Bootstrap(t.Context(), here)
	w.ok(err)
	second, secret, err := w.Bootstrap(t.Context(), here)
	w.ok(err)
	c, err := w.Lookup(t.Context(), here.Region, second, "")
	w.ok(err)
	if first == second || c.Secret != secret || c.Caller.Name != Administrator {
		t.Errorf("keys %s and %s of %s", first, second, c.Caller.Name)
	}
	w.ok(w.can(c.Caller, "iam:CreateUser", "*"))
}
