package conformity

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/wire"
	"github.com/imprint-iot/imprint/internal/wire/wiretest"
)

var update = flag.Bool("update", false, "write the generated part of docs/compatibility.md anew")

const (
	pageFile    = "../../../docs/compatibility.md"
	pageCommand = "go test ./internal/server/conformity -run TestTheCompatibilityPage -update"
	pageBegin   = "<!-- generated: coverage; " + pageCommand + " -->\n"
	pageEnd     = "<!-- end of generated part -->\n"
)

// An unusedMember is an input member that is accepted and not used. This table is the only place that excuses one: the page shows
// it, and TestEveryInputMemberIsReadRefusedOrOnThePage allows nothing else.
type unusedMember struct {
	service   string // as the table's Coverage names it
	operation string // "*": wherever the member occurs
	member    string
	why       string
}

var unusedMembers = []unusedMember{
	{"iot", "*", "OverrideDynamicGroups", "there are no dynamic groups that could be left in favour of a static one"},
	{"cognito-idp", "*", "ClientMetadata", "goes to Lambda triggers that are not offered, or do not get it in AWS either"},
	{"cognito-idp", "*", "AnalyticsMetadata", "an endpoint id for campaign statistics; AnalyticsConfiguration, which asks for them, is refused"},
	{"cognito-idp", "*", "UserContextData", "for risk scores; a pool that asks for them is refused. Addresses are taken from the connection"},
	{"cognito-idp", "*", "ContextData", "for risk scores; a pool that asks for them is refused"},
	{"cognito-idp", "GetTokensFromRefreshToken", "DeviceKey", "no devices are remembered; a pool that asks for it is refused"},
	{"cognito-identity", "GetId", "AccountId", "a pool's id tells its account"},
	{"cognito-identity", "ListIdentities", "HideDisabled", "no identity is ever disabled, so there is none to hide"},
	{"iam", "*", "CallerArn", "matters to resource policies alone, which a simulation has not"},
	{"iam", "*", "ContextEntries.ContextKeyType", "values are compared as the operator of the condition says, whatever their type is called"},
	{"lambda", "ListAliases", "FunctionVersion", "functions have no aliases, of any version"},
	{"lambda", "*", "MaxItems", "the list has one entry, or none"},
}

func (u unusedMember) covers(service, path string) bool {
	operation, member, _ := strings.Cut(path, ".")
	return u.service == service && u.member == member && (u.operation == "*" || u.operation == operation)
}

// unread lists the input members that the code of a service neither reads nor refuses, as "Operation.Member".
func unread(t *testing.T, c wire.Coverage) []string {
	t.Helper()
	dir := filepath.Join("../../api", strings.ReplaceAll(c.Service, "-", ""))
	list, err := wiretest.Unread(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEveryInputMemberIsReadRefusedOrOnThePage(t *testing.T) {
	t.Parallel()
	used := map[unusedMember]bool{}
	for _, svc := range start(t).Services() {
		for _, path := range unread(t, svc.Coverage()) {
			i := slices.IndexFunc(unusedMembers, func(u unusedMember) bool { return u.covers(svc.Name(), path) })
			if i < 0 {
				t.Errorf("%s %s is accepted and ignored: read it, refuse it (Refuse in the table of operations), or say in unusedMembers why nobody misses it",
					svc.Name(), path)
				continue
			}
			used[unusedMembers[i]] = true
		}
	}
	for _, u := range unusedMembers {
		if !used[u] {
			t.Errorf("unusedMembers lists %s %s.%s, which is read or refused by now", u.service, u.operation, u.member)
		}
	}
}

func TestTheCompatibilityPageShowsWhatIsImplemented(t *testing.T) {
	t.Parallel()
	want := renderCoverage(t, start(t).Services())
	page, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte(pageBegin))
	got, after, ok2 := bytes.Cut(rest, []byte(pageEnd))
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks %q and %q", pageFile, pageBegin, pageEnd)
	}
	if string(got) == want {
		return
	}
	if !*update {
		t.Fatalf("docs/compatibility.md does not show what is implemented: run %s", pageCommand)
	}
	if err := os.WriteFile(pageFile, slices.Concat(before, []byte(pageBegin), []byte(want), []byte(pageEnd), after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// renderCoverage is the generated part of the page.
func renderCoverage(t *testing.T, services []*wire.Service) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("\n| service | implemented | in the model |\n|---|---|---|\n")
	for _, svc := range services {
		c := svc.Coverage()
		fmt.Fprintf(&b, "| [%s](#%s) | %d | %d |\n", c.Service, anchor(c), len(c.Implemented), len(c.Modelled))
	}
	b.WriteString("\nThe names that are implemented, the members that are refused when a request sets them, and those that are accepted and change nothing:\n")
	for _, svc := range services {
		c := svc.Coverage()
		fmt.Fprintf(&b, "\n### %s (%s)\n\n", c.Service, c.ID)
		if len(c.Implemented) == 0 {
			b.WriteString("No operation yet.\n")
			continue
		}
		renderOperations(&b, c)
		renderUnused(&b, c.Service, unread(t, c))
	}
	b.WriteString("\n")
	return b.String()
}

// anchor is how GitHub names a service's heading.
func anchor(c wire.Coverage) string {
	return strings.ReplaceAll(strings.ToLower(c.Service+" "+c.ID), " ", "-")
}

func renderOperations(b *strings.Builder, c wire.Coverage) {
	var names, public []string
	refused := map[string][]string{}
	for _, op := range c.Implemented {
		names = append(names, op.Operation)
		if op.Public {
			public = append(public, op.Operation)
		}
		for _, member := range op.Refused {
			refused[member] = append(refused[member], op.Operation)
		}
	}
	fmt.Fprintf(b, "%s.\n", strings.Join(names, ", "))
	if len(public) > 0 {
		fmt.Fprintf(b, "\nWithout a signature: %s.\n", strings.Join(public, ", "))
	}
	if len(refused) == 0 {
		return
	}
	b.WriteString("\n| refused member | of |\n|---|---|\n")
	for _, member := range slices.Sorted(maps.Keys(refused)) {
		fmt.Fprintf(b, "| %s | %s |\n", member, strings.Join(refused[member], ", "))
	}
}

func renderUnused(b *strings.Builder, service string, paths []string) {
	operations := map[unusedMember][]string{}
	for _, path := range paths {
		for _, u := range unusedMembers {
			if u.covers(service, path) {
				operation, _, _ := strings.Cut(path, ".")
				operations[u] = append(operations[u], operation)
			}
		}
	}
	if len(operations) == 0 {
		return
	}
	b.WriteString("\n| ignored member | of | why |\n|---|---|---|\n")
	byName := func(x, y unusedMember) int {
		return cmp.Or(strings.Compare(x.member, y.member), strings.Compare(x.operation, y.operation))
	}
	for _, u := range slices.SortedFunc(maps.Keys(operations), byName) {
		fmt.Fprintf(b, "| %s | %s | %s |\n", u.member, strings.Join(operations[u], ", "), u.why)
	}
}
