package iam

import (
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// A simulation must say what a real request gets: each question is put both ways.
func TestASimulationAgreesWithRealRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow iot:* arn:aws:iot:us-east-1:111111111111:thing/${aws:username}-*", "Deny iot:DeleteThing *")
	_, err := w.CreateGroup(t.Context(), here, Entity{Name: "crew"})
	w.ok(err)
	w.ok(w.PutInline(t.Context(), here, store.IAMGroup, "crew", "lists", document("Allow iot:List* *", "Allow iam:* *")))
	w.ok(w.AddToGroup(t.Context(), here, "crew", "ada"))
	_, err = w.CreatePolicy(t.Context(), here, Entity{Name: "bound"}, document("Allow iot:* *"))
	w.ok(err)
	w.ok(w.SetBoundary(t.Context(), here, store.IAMUser, "ada", here.IAM("policy/bound")))
	q := Simulation{Principal: ada.ARN, Actions: []string{"iot:DescribeThing", "iot:DeleteThing", "iot:ListThings", "iam:ListUsers", "s3:GetObject"},
		Resources: []string{"*", "arn:aws:iot:us-east-1:111111111111:thing/ada-1", "arn:aws:iot:us-east-1:111111111111:thing/bob-1", "arn:aws:iot:us-east-1:222222222222:thing/ada-1"}}
	got, err := w.Simulate(t.Context(), here, q)
	w.ok(err)
	if len(got) != len(q.Actions)*len(q.Resources) {
		t.Fatalf("%d answers", len(got))
	}
	for _, g := range got {
		err := w.can(ada, g.Action, g.Resource)
		want := policy.Allowed
		if err != nil {
			want = policy.ImplicitDeny
			if strings.Contains(text(err), "explicit deny") {
				want = policy.ExplicitDeny
			}
		}
		if g.Decision != want || !g.Bounded || g.Within != (strings.HasPrefix(g.Action, "iot:")) {
			t.Errorf("%s on %s: simulated %v, really %v", g.Action, g.Resource, g, err)
		}
		if (g.Decision == policy.ExplicitDeny) != slices.ContainsFunc(g.Matched, func(m SimulatedStatement) bool { return m.Policy == "p" && g.Action == "iot:DeleteThing" }) {
			t.Errorf("%s on %s: matched %v", g.Action, g.Resource, g.Matched)
		}
	}
}

func TestASimulationTellsStatementsAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lines := "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\"Effect\": \"Allow\", \"Action\": \"iot:*\", \"Resource\": \"*\",\n     \"Condition\": {\"IpAddress\": {\"aws:SourceIp\": \"10.0.0.0/8\"}}},\n    {\"Effect\": \"Allow\", \"Action\": \"iot:List*\", \"Resource\": \"*\"}\n  ]\n}"
	ask := func(facts policy.Context) Simulated {
		got, err := w.Simulate(t.Context(), here, Simulation{Actions: []string{"iot:DescribeThing"}, Policies: []string{document("Allow s3:* *"), lines}, Context: facts})
		w.ok(err)
		return got[0]
	}
	if g := ask(nil); g.Decision != policy.ImplicitDeny || !slices.Equal(g.Missing, []string{"aws:sourceip"}) || len(g.Matched) != 0 {
		t.Errorf("without an address: %+v", g)
	}
	g := ask(policy.Context{"aws:sourceip": {"10.1.2.3"}})
	want := SimulatedStatement{"PolicyInputList.2", "none", policy.Position{Line: 4, Column: 5}, policy.Position{Line: 5, Column: 65}}
	if g.Decision != policy.Allowed || len(g.Missing) != 0 || !slices.Equal(g.Matched, []SimulatedStatement{want}) {
		t.Errorf("with an address: %+v", g)
	}
	w.role(here, "r", trustAWS(home))
	w.ok(w.Attach(t.Context(), here, store.IAMRole, "r", managedPrefix+"AWSIoTFullAccess"))
	more, err := w.Simulate(t.Context(), here, Simulation{Principal: here.IAM("role/r"), Actions: []string{"iot:DescribeThing"}, Boundary: []string{document("Allow s3:* *")}})
	w.ok(err)
	if g := more[0]; g.Decision != policy.ImplicitDeny || !g.Bounded || g.Within || len(g.Matched) != 1 || g.Matched[0].Kind != "aws-managed" {
		t.Errorf("with a boundary: %+v", g)
	}
	for name, q := range map[string]Simulation{
		"a wildcard":          {Actions: []string{"iot:*"}},
		"no action":           {Actions: []string{"DescribeThing"}},
		"a policy":            {Principal: here.IAM("policy/r"), Actions: []string{"iot:Connect"}},
		"a bad document":      {Actions: []string{"iot:Connect"}, Policies: []string{"{}"}},
		"too many at once":    {Actions: slices.Repeat([]string{"iot:Connect"}, 40), Resources: slices.Repeat([]string{"*"}, 40)},
		"a bad boundary":      {Actions: []string{"iot:Connect"}, Boundary: []string{"x"}},
		"an assumed role":     {Principal: "arn:aws:sts::111111111111:assumed-role/r/s", Actions: []string{"iot:Connect"}},
		"nothing like an ARN": {Principal: "ada", Actions: []string{"iot:Connect"}},
	} {
		_, err := w.Simulate(t.Context(), here, q)
		if codeOf(err) != "InvalidInput" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, arn := range []string{here.IAM("role/none"), there.IAM("role/r")} {
		_, err = w.Simulate(t.Context(), here, Simulation{Principal: arn, Actions: []string{"iot:Connect"}})
		w.refused(err, fleet.KindNotFound, "cannot be found")
	}
}

func TestARenamedGroupKeepsMembersAndPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada")
	_, err := w.CreateGroup(t.Context(), here, Entity{Name: "crew"})
	w.ok(err)
	w.ok(w.PutInline(t.Context(), here, store.IAMGroup, "crew", "p", document("Allow iot:List* *")))
	w.ok(w.Attach(t.Context(), here, store.IAMGroup, "crew", managedPrefix+"AWSIoTDataAccess"))
	w.ok(w.AddToGroup(t.Context(), here, "crew", "ada"))
	w.ok(w.Rename(t.Context(), here, store.IAMGroup, "crew", "staff", "/plant/"))
	w.ok(w.can(ada, "iot:ListThings", "*"))
	w.ok(w.can(ada, "iot:Publish", "*"))
	groups, err := w.GroupsOf(t.Context(), here, "ada")
	w.ok(err)
	if len(groups) != 1 || groups[0].ARN(here) != here.IAM("group/plant/staff") {
		t.Errorf("%+v", groups)
	}
	_, err = w.CreateGroup(t.Context(), here, Entity{Name: "other"})
	w.ok(err)
	w.refused(w.Rename(t.Context(), here, store.IAMGroup, "other", "STAFF", ""), fleet.KindExists, "Group with name STAFF already exists.")
}
