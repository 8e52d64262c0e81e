package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A template's settings live in its body, so that they are versioned with it and survive every AWS tool. They are legal AWS
// grammar, a map of two levels with text in it:
//
//	"Mappings": {"Imprint": {"Settings": {"AllowedPolicyNames": "sensor-v1 sensor-v2", "Reprovision": "aws"}}}
//
// An unknown key or value is refused when the template is created.
const (
	settingsMap = "Imprint"
	settingsTop = "Settings"
)

// Settings are what a template says to this product alone, under Mappings.Imprint.Settings. The zero value of each means that
// the template is silent.
type Settings struct {
	// AllowedPolicyNames are the policy names that a parameter may choose.
	AllowedPolicyNames []string
	// AllowedThingGroups are the thing groups that a parameter may choose.
	AllowedThingGroups []string
	// Reprovision says what happens when a device asks for a thing that has a principal already. Never empty once parsed.
	Reprovision Reprovision

	// RenewalWindow is how long before its end a certificate is to be renewed; 0: DefaultRenewalWindow. A share is of its validity.
	RenewalWindow Span
	// RenewalJitter is over how much of the window, from its beginning, devices spread; 0: DefaultRenewalJitter. A share is of the window.
	RenewalJitter Span
	// RenewalOverlap is for how long the old certificate stays when the new one has connected; nil: for ever.
	RenewalOverlap *time.Duration
	// RenewalParameters is RenewalAny if a device that renews its certificate may send other parameters than it was registered with.
	RenewalParameters RenewalParameters
	// ExpiredGrace is for how long after its end a certificate may still connect, to renew itself and for nothing else.
	ExpiredGrace time.Duration
}

// RenewalParameters is a rule for the parameters of renewals. The zero value asks for the same as before.
type RenewalParameters string

// RenewalAny allows any parameters.
const RenewalAny RenewalParameters = "any"

// Reprovision is a rule for things that have a principal already.
type Reprovision string

const (
	ReprovisionDeny Reprovision = "deny" // refused, unless the requester is a principal of the thing; the default
	ReprovisionAWS  Reprovision = "aws"  // allowed: the new certificate is attached in addition
)

// A SettingInfo describes a setting to people.
type SettingInfo struct{ Name, Values, Meaning string }

type setting struct {
	SettingInfo
	parse func(*Settings, string) error
}

// settings is the table of all settings: a new one is a row here and a field in Settings.
var settings = []setting{
	{SettingInfo{"AllowedPolicyNames", "policy names, separated by blanks", "the policies that a parameter may choose as PolicyName"},
		func(s *Settings, v string) error {
			return parseNames(&s.AllowedPolicyNames, v, "policy name", fleet.ValidPolicyName)
		}},
	{SettingInfo{"AllowedThingGroups", "thing group names, separated by blanks", "the groups that a parameter may choose in ThingGroups"},
		func(s *Settings, v string) error {
			return parseNames(&s.AllowedThingGroups, v, "thing group name", fleet.ValidRegistryName)
		}},
	{SettingInfo{"Reprovision", "deny (default) or aws",
		"what happens when a device asks for a thing that has a principal: deny refuses unless the requester is a principal of the thing, aws attaches the new certificate in addition"},
		func(s *Settings, v string) error {
			s.Reprovision = Reprovision(v)
			return oneOf(v, string(ReprovisionDeny), string(ReprovisionAWS))
		}},
	{SettingInfo{"RenewalWindow", "a time such as 30d or 36h, or a percentage of the validity such as 33% (default)",
		"how long before its end a certificate is to be renewed; the forecast of expiries and imprint-device go by it"},
		func(s *Settings, v string) (err error) { s.RenewalWindow, err = parseSpan(v); return err }},
	{SettingInfo{"RenewalJitter", "a time such as 5d, or a percentage of the window such as 50% (default)",
		"over how much of the renewal window, from its beginning, devices spread; what is not renewed then is overdue"},
		func(s *Settings, v string) (err error) { s.RenewalJitter, err = parseSpan(v); return err }},
	{SettingInfo{"RenewalOverlap", "a time such as 24h (default where RenewalWindow is set), 0s, or never (default elsewhere, as in AWS)",
		"for how long the certificate that asked for another one of its thing stays in service when that has connected; then it is deactivated and detached"},
		parseOverlap},
	{SettingInfo{"RenewalParameters", "same (default) or any",
		"which parameters a device may send that renews its certificate: same wants those that the certificate was registered with"},
		func(s *Settings, v string) error {
			if v == string(RenewalAny) {
				s.RenewalParameters = RenewalAny
			}
			return oneOf(v, "same", string(RenewalAny))
		}},
	{SettingInfo{"ExpiredGrace", "a time such as 14d; 0s (default): none",
		"for how long after its end a certificate may still connect, to renew itself with this template and for nothing else"},
		func(s *Settings, v string) (err error) { s.ExpiredGrace, err = parseTime(v); return err }},
}

// AllSettings describes every setting, in a fixed order.
func AllSettings() []SettingInfo {
	out := make([]SettingInfo, len(settings))
	for i, s := range settings {
		out[i] = s.SettingInfo
	}
	return out
}

// parseSettings reads Mappings.Imprint; m is nil if the template has none.
func parseSettings(m map[string]map[string]string) (Settings, error) {
	out := Settings{Reprovision: ReprovisionDeny}
	for _, top := range slices.Sorted(maps.Keys(m)) {
		if top != settingsTop {
			return out, fmt.Errorf("%q is unknown: settings stand in Mappings.Imprint.Settings", clip(top))
		}
		for _, key := range slices.Sorted(maps.Keys(m[top])) {
			i := slices.IndexFunc(settings, func(s setting) bool { return s.Name == key })
			if i < 0 {
				return out, fmt.Errorf("Settings.%s: there is no such setting; those are %s", clip(key), settingNames())
			}
			if err := settings[i].parse(&out, m[top][key]); err != nil {
				return out, fmt.Errorf("Settings.%s: %w", key, err)
			}
		}
	}
	out.completeRenewal(m[settingsTop])
	return out, nil
}

func settingNames() string {
	var names []string
	for _, s := range settings {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

func parseNames(into *[]string, v, what string, valid func(string) bool) error {
	for _, name := range strings.Fields(v) {
		if !valid(name) {
			return fmt.Errorf("%q is no %s", clip(name), what)
		}
		*into = append(*into, name)
	}
	return nil
}

func oneOf(v string, values ...string) error {
	if slices.Contains(values, v) {
		return nil
	}
	return fmt.Errorf("%q is none of %s", clip(v), strings.Join(values, ", "))
}
