package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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
}

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
