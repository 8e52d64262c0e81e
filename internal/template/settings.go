package template

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A template's settings live in its body, so that they are versioned with it and survive every AWS tool. They are legal AWS
// grammar, a map of two levels with text in it:
//
//	"Mappings": {"Imprint": {"Settings": {"AllowedPolicyNames": "sensor-v1 sensor-v2", "Reprovision": "replace"}}}
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

	// Reprovision says what happens when a device asks for a thing that has a principal already. See Settings.rule for silence.
	Reprovision Reprovision

	// CertificateDays is how long certificates live that are asked for with a claim of the template or to renew one of its; 0: as long
	// as the installation says.
	CertificateDays Days
	// CertificateKeyType is the type of the keys that the service makes for devices, in pki's words; "": RSA-2048.
	CertificateKeyType string
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

	// SerialParameter is the parameter with a device's serial number; "": SerialNumber.
	SerialParameter string
	// AllowedSerials are the serial numbers or thing names that may be registered. nil: any.
	AllowedSerials []string
	// BootstrapDevices is how many devices one bootstrap certificate may register, fleet.Unlimited for any number. 0: the default
	// of docs/guards.md.
	BootstrapDevices int

	// ClaimDevices is how many devices one temporary claim may register.
	ClaimDevices int
	// ClaimKeyType is the type of the keys of claims, in pki's words; "": RSA-2048.
	ClaimKeyType string
	// ClaimSeconds is how long a claim lives, at most fleet.ClaimLifetime.
	ClaimSeconds int
	// ClaimAddresses are the networks from which a claim may be used.
	ClaimAddresses []string
	// ReplyBudget is the size in bytes of the largest MQTT packet that the devices can receive.
	ReplyBudget int
}

// RenewalParameters is a rule for the parameters of renewals. The zero value asks for the same as before.
type RenewalParameters string

// RenewalAny allows any parameters.
const RenewalAny RenewalParameters = "any"

// A SettingInfo describes a setting to people.
type SettingInfo struct{ Name, Values, Default, Meaning string }

type setting struct {
	SettingInfo
	parse func(*Settings, string) error
}

// maxDevices bounds numbers of devices, so that they fit whatever they are added up in.
const maxDevices = 1_000_000_000

// settings is the table of all settings: a new one is a row here and a field in Settings.
var settings = []setting{
	{SettingInfo{"AllowedPolicyNames", "policy names, separated by blanks", "none", "the policies that a parameter may choose as `PolicyName`"},
		func(s *Settings, v string) error {
			return parseNames(&s.AllowedPolicyNames, v, "policy name", fleet.ValidPolicyName)
		}},
	{SettingInfo{"AllowedSerials", "serial numbers or thing names, separated by blanks", "any", "the devices that may be registered, whatever claim they come with"},
		func(s *Settings, v string) (err error) { s.AllowedSerials, err = ParseSerials(v); return err }},
	{SettingInfo{"AllowedThingGroups", "thing group names, separated by blanks", "none", "the groups that a parameter may choose in `ThingGroups`"},
		func(s *Settings, v string) error {
			return parseNames(&s.AllowedThingGroups, v, "thing group name", fleet.ValidRegistryName)
		}},
	{SettingInfo{"BootstrapDevices", "a number, or `unlimited`", "1000 where the template has neither hook nor AllowedSerials, else unlimited",
		"how many devices one bootstrap certificate may register; limits of the certificate itself (`imprint claim limits`) come first"},
		func(s *Settings, v string) (err error) {
			if v == "unlimited" {
				s.BootstrapDevices = fleet.Unlimited
				return nil
			}
			s.BootstrapDevices, err = ParseDevices(v)
			return err
		}},
	{SettingInfo{"ClaimAddresses", "networks or addresses, separated by blanks", "any", "from where a temporary claim may be used"},
		func(s *Settings, v string) (err error) { s.ClaimAddresses, err = fleet.ParseNetworks(v); return err }},
	{SettingInfo{"ClaimDevices", "a number", "any number", "how many devices one temporary claim may register; 1 is single use"},
		func(s *Settings, v string) (err error) { s.ClaimDevices, err = ParseDevices(v); return err }},
	{SettingInfo{"ClaimKeyType", "`RSA-2048` or `P-256`", "`RSA-2048`, as in AWS", "the keys of temporary claims; P-256 is made, handed over and used faster, and any device that does TLS 1.3 knows it"},
		func(s *Settings, v string) error {
			s.ClaimKeyType = v
			return oneOf(v, "RSA-2048", "P-256")
		}},
	{SettingInfo{"ClaimSeconds", "30 to 300", "300", "how long a temporary claim lives"},
		func(s *Settings, v string) (err error) { s.ClaimSeconds, err = ParseClaimSeconds(v); return err }},
	{SettingInfo{"Reprovision", "`deny`, `require-same-key`, `replace`, `approve` or `aws`", "`aws` where a hook has allowed the device, else `deny`",
		"what happens when a device asks for a thing that has a principal already, and is none of its principals"},
		func(s *Settings, v string) error {
			s.Reprovision = Reprovision(v)
			return oneOf(v, string(ReprovisionDeny), string(ReprovisionSameKey), string(ReprovisionReplace), string(ReprovisionApprove), string(ReprovisionAWS))
		}},
	{SettingInfo{"SerialParameter", "the name of a parameter", "`SerialNumber`", "which parameter has the serial number that `AllowedSerials` and limits of claims speak of"},
		func(s *Settings, v string) error {
			if s.SerialParameter = v; v == "" || strings.HasPrefix(v, pseudoPrefix) {
				return fmt.Errorf("%q is no parameter that a device sends", clip(v))
			}
			return nil
		}},
	{SettingInfo{"CertificateDays", "a number of days, such as 90 or 0.5", "until 2049, as in AWS",
		"how long certificates live that devices ask for with a claim of this template, or to renew one that was registered with it; also with a bootstrap certificate whose policies name this template and allow no other"},
		func(s *Settings, v string) (err error) { s.CertificateDays, err = parseDays(v); return err }},
	{SettingInfo{"CertificateKeyType", "`RSA-2048`, `P-256` or `P-384`", "`RSA-2048`, as in AWS",
		"the keys that the service makes for devices that ask for them (`CreateKeysAndCertificate` over MQTT) where `CertificateDays` would count; an RSA key costs 60 ms of CPU, others almost nothing"},
		func(s *Settings, v string) error {
			s.CertificateKeyType = v
			return oneOf(v, "RSA-2048", "P-256", "P-384")
		}},
	{SettingInfo{"RenewalWindow", "a time such as 30d or 36h, or a percentage of the validity", "33%",
		"how long before its end a certificate is to be renewed; the forecast of expiries and imprint-device go by it"},
		func(s *Settings, v string) (err error) { s.RenewalWindow, err = parseSpan(v); return err }},
	{SettingInfo{"RenewalJitter", "a time such as 5d, or a percentage of the window", "50%",
		"over how much of the renewal window, from its beginning, devices spread; what is not renewed then is overdue"},
		func(s *Settings, v string) (err error) { s.RenewalJitter, err = parseSpan(v); return err }},
	{SettingInfo{"RenewalOverlap", "a time such as 24h, 0s, or `never`", "24h where `CertificateDays` or `RenewalWindow` is set, else `never`, as in AWS",
		"for how long the certificate that asked for another one of its thing stays in service when that has connected; then it is deactivated and detached"},
		parseOverlap},
	{SettingInfo{"RenewalParameters", "`same` or `any`", "`same`",
		"which parameters a device may send that renews its certificate: same wants those that the certificate was registered with"},
		func(s *Settings, v string) error {
			if v == string(RenewalAny) {
				s.RenewalParameters = RenewalAny
			}
			return oneOf(v, "same", string(RenewalAny))
		}},
	{SettingInfo{"ExpiredGrace", "a time such as 14d; 0s: none", "0s",
		"for how long after its end a certificate may still connect, to renew itself with this template and for nothing else"},
		func(s *Settings, v string) (err error) { s.ExpiredGrace, err = parseTime(v); return err }},
	{SettingInfo{"ReplyBudget", "bytes, 256 to 131072", "not said", "the largest MQTT packet that the devices can receive; lint says whether the answers fit"},
		func(s *Settings, v string) (err error) {
			if s.ReplyBudget, err = strconv.Atoi(v); err != nil || s.ReplyBudget < 256 || s.ReplyBudget > 128<<10 {
				return fmt.Errorf("%q is no number of bytes from 256 to 131072", clip(v))
			}
			return nil
		}},
}

// minClaimSeconds is the shortest life of a claim: a device must be able to connect in it.
const minClaimSeconds = 30

// defaultSerialParameter is what AWS's samples call it (provisioning spec 5).
const defaultSerialParameter = "SerialNumber"

// parseSettings reads Mappings.Imprint; m is nil if the template has none.
func parseSettings(m map[string]map[string]string) (Settings, error) {
	var out Settings
	for _, top := range slices.Sorted(maps.Keys(m)) {
		if top != settingsTop {
			return out, fmt.Errorf("%q is unknown: settings stand in Mappings.Imprint.Settings", clip(top))
		}
		for _, key := range slices.Sorted(maps.Keys(m[top])) {
			i := slices.IndexFunc(settings, func(s setting) bool { return s.Name == key })
			if i < 0 {
				names := settingNames()
				return out, at(top, at(key, fmt.Errorf("there is no such setting%s; those are %s", fleet.DidYouMean(clip(key), names), strings.Join(names, ", "))))
			}
			if err := settings[i].parse(&out, m[top][key]); err != nil {
				return out, at(top, at(key, err))
			}
		}
	}
	out.completeRenewal(m[settingsTop])
	return out, nil
}

func settingNames() (names []string) {
	for _, s := range settings {
		names = append(names, s.Name)
	}
	return names
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

// parseNumber reads a decimal number between two bounds.
func parseNumber(v string, from, to int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < from || n > to || strconv.Itoa(n) != v {
		return 0, fmt.Errorf("%q is no number from %d to %d", clip(v), from, to)
	}
	return n, nil
}

// ParseDevices reads a number of devices.
func ParseDevices(v string) (int, error) { return parseNumber(v, 1, maxDevices) }

// ParseClaimSeconds reads how long a claim lives.
func ParseClaimSeconds(v string) (int, error) {
	return parseNumber(v, minClaimSeconds, int(fleet.ClaimLifetime/time.Second))
}

// ParseSerials reads serial numbers or thing names, separated by blanks.
func ParseSerials(v string) ([]string, error) {
	list := strings.Fields(v)
	if len(list) == 0 {
		return nil, errors.New("the list is empty: nothing could be registered")
	}
	for _, serial := range list {
		if utf8.RuneCountInString(serial) > MaxParameterValue || !utf8.ValidString(serial) {
			return nil, fmt.Errorf("%q is too long for a serial number", clip(serial))
		}
	}
	return list, nil
}
