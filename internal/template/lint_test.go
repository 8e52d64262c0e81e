package template

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

var here = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

// TestEachRuleFindsItsExample runs every rule on a body that breaks it and on one that does not.
func TestEachRuleFindsItsExample(t *testing.T) {
	t.Parallel()
	for _, rule := range lintRules {
		t.Run(rule.ID, func(t *testing.T) {
			t.Parallel()
			g := readGolden(t, filepath.Join("testdata", "lint", rule.ID+".txt"))
			for name, facts := range map[string]string{"bad": "facts", "good": "good facts"} {
				known := LintFacts{Scope: here}
				g.decode(t, facts, &known)
				body, kind := g.sections[name], Fleet
				if rule.ID == "parameter-certificate" {
					kind = JITP
				}
				found := Lint(strings.TrimSuffix(body, "\n"), kind, known)
				i := slices.IndexFunc(found, func(f Finding) bool { return f.Rule == rule.ID })
				switch {
				case i < 0 && name == "bad":
					t.Errorf("the bad example passes: %+v", found)
				case i >= 0 && name == "good":
					t.Errorf("the good example is blamed: %+v", found[i])
				case i >= 0:
					f := found[i]
					if lines := strings.Count(body, "\n"); f.Line < 1 || f.Line > lines || f.Cause == "" || f.Cure == "" || f.Severity != rule.Severity || strings.Contains(f.Cause+f.Cure, "%!") {
						t.Errorf("%+v, of %d lines", f, lines)
					}
				case slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == SeverityError }) && !slices.Contains(sideBySide, rule.ID):
					t.Errorf("the good example has other errors: %+v", found)
				}
			}
		})
	}
	files, err := os.ReadDir(filepath.Join("testdata", "lint"))
	if err != nil || len(files) != len(lintRules) {
		t.Errorf("%d examples of %d rules, %v", len(files), len(lintRules), err)
	}
}

// sideBySide are rules whose good example another rule finds fault with.
var sideBySide = []string{"override-conflict"}

func TestAFindingKnowsItsLine(t *testing.T) {
	t.Parallel()
	body := "{\n \"Parameters\": {\"S\": {\"Type\": \"String\"}},\n \"Resources\": {\n  \"thing\": {\"Type\": \"AWS::IoT::Thing\",\n   \"Properties\": {\n    \"ThingName\": {\"Ref\": \"Serial\"}}}}}"
	for _, f := range Lint(body, Fleet, LintFacts{Scope: here}) {
		want := map[string]struct {
			pointer string
			line    int
		}{"parameter-undeclared": {"/Resources/thing/Properties/ThingName/Ref", 6}, "parameter-unused": {"/Parameters/S", 2}, "certificate-missing": {"/Resources", 3}}[f.Rule]
		if want.pointer != f.Pointer || want.line != f.Line {
			t.Errorf("%+v", f)
		}
	}
	found := Lint(strings.Replace(body, "ThingName", "Thing/Nmae", 1), Fleet, LintFacts{})
	if len(found) == 0 || !slices.ContainsFunc(found, func(f Finding) bool {
		return f.Rule == "syntax" && f.Line == 6 && f.Pointer == "/Resources/thing/Properties/Thing~1Nmae"
	}) {
		t.Errorf("%+v", found)
	}
	if found := Lint("{", Fleet, LintFacts{}); len(found) != 1 || found[0].Rule != "syntax" || found[0].Line != 1 {
		t.Errorf("%+v", found)
	}
}

func TestFindingsOfOneLineKeepTheirOrder(t *testing.T) {
	t.Parallel()
	const body = `{"Resources": {"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:eu-west-1:123456789012:topic/x"}]}}}}}`
	for range 30 {
		var cures []string
		for _, f := range Lint(body, Fleet, LintFacts{Scope: here}) {
			if f.Rule == "policy-scope" {
				cures = append(cures, f.Cure)
			}
		}
		if want := []string{"write us-east-1 in its place", "write 000000000000 in its place"}; !slices.Equal(cures, want) {
			t.Fatalf("%q, want %q", cures, want)
		}
	}
}

func TestLintKnowsTheSettings(t *testing.T) {
	t.Parallel()
	const body = "{\"Mappings\": {\"Imprint\": {\"Settings\": {\n  %s}}},\n \"Resources\": {}}"
	for setting, want := range map[string]string{
		`"Reprovison": "deny"`:         "did you mean Reprovision?",
		`"CertificatDays": "90"`:       "did you mean CertificateDays?",
		`"colour": "red"`:              "there is no such setting; those are AllowedPolicyNames",
		`"Reprovision": "maybe"`:       `"maybe" is none of deny`,
		`"ClaimSeconds": "29"`:         "from 30 to 300",
		`"ClaimDevices": "0"`:          "from 1 to",
		`"BootstrapDevices": "many"`:   "from 1 to",
		`"ClaimAddresses": "10.0.0"`:   "10.0.0",
		`"ReplyBudget": "255"`:         "from 256 to 131072",
		`"RenewalWindow": "101%"`:      "101%",
		`"AllowedSerials": " "`:        "the list is empty",
		`"CertificateKeyType": "P256"`: "RSA-2048, P-256, P-384",
	} {
		found := Lint(fmt.Sprintf(body, setting), Fleet, LintFacts{})
		i := slices.IndexFunc(found, func(f Finding) bool { return f.Rule == "syntax" })
		if i < 0 || found[i].Severity != SeverityError || found[i].Line != 2 || !strings.Contains(found[i].Cause, want) {
			t.Errorf("%s: %+v", setting, found)
		}
	}
	for _, s := range settings { // each has bad values
		if s.parse(new(Settings), "\x00 no value") == nil && s.Name != "AllowedSerials" && s.Name != "SerialParameter" {
			t.Errorf("%s takes anything", s.Name)
		}
	}
}

func TestLintKnowsWhichRulesLetDevicesComeAgain(t *testing.T) {
	t.Parallel()
	const body = `{"Parameters": {"S": {"Type": "String"}}, "Mappings": {"Imprint": {"Settings": {%s}}}, "Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "S"}, "AttributePayload": {"a": "b"}}, "OverrideSettings": {"AttributePayload": "FAIL"}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamp"}}}}`
	for settings, want := range map[string]struct{ conflict, takeover bool }{
		``:                                  {},
		`"Reprovision": "deny"`:             {},
		`"Reprovision": "require-same-key"`: {true, false},
		`"Reprovision": "approve"`:          {true, false},
		`"Reprovision": "replace"`:          {true, true},
		`"Reprovision": "aws"`:              {true, true},
		`"Reprovision": "aws", "AllowedSerials": "a"`: {true, false},
	} {
		var got struct{ conflict, takeover bool }
		for _, f := range Lint(fmt.Sprintf(body, settings), Fleet, LintFacts{}) {
			got.conflict = got.conflict || f.Rule == "override-conflict"
			got.takeover = got.takeover || f.Rule == "guard-takeover"
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", settings, got, want)
		}
	}
}
