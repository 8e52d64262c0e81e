package template

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Evaluate puts parameters into the template. service has the pseudo parameters that the flow supplies (CertificateID for a
// fleet template; what the certificate's subject has, for JITP); they win over params, of which fleet and JITP templates ignore
// all that begin with "AWS::". Errors have kind KindInvalid; a missing parameter's is AWS's "Cannot resolve reference value: X"
// (provisioning spec 3.8, 4.7).
//
// The result is the caller's to change.
func (t *Template) Evaluate(params, service map[string]string) (*Desired, error) {
	sc := &scope{t: t, params: params, service: service, lenient: t.kind == Inline || t.kind == Bulk}
	if !sc.lenient {
		sc.params = withoutPseudo(params)
	}
	d, err := t.evaluate(sc)
	if err != nil {
		var e *fleet.Error
		if !errors.As(err, &e) {
			err = fleet.Invalid("", "", "%s", err)
		}
		return nil, err
	}
	return d, nil
}

func withoutPseudo(params map[string]string) map[string]string {
	out := make(map[string]string, len(params))
	for name, v := range params {
		if !strings.HasPrefix(name, pseudoPrefix) {
			out[name] = v
		}
	}
	return out
}

func (t *Template) evaluate(sc *scope) (d *Desired, err error) {
	if err := t.checkParameters(sc); err != nil {
		return nil, err
	}
	d = &Desired{Kind: t.kind, Configuration: map[string]string{}, Settings: t.settings}
	if t.thing != nil {
		if d.Thing, d.Serial, err = t.evalThing(sc, t.thing); err != nil {
			return nil, at("Resources."+t.thing.logical, err)
		}
	}
	if t.cert != nil {
		if d.Certificate, err = t.evalCertificate(sc, t.cert); err != nil {
			return nil, at("Resources."+t.cert.logical, err)
		}
	}
	for _, spec := range t.policies {
		p, err := t.evalPolicy(sc, spec)
		if err != nil {
			return nil, at("Resources."+spec.logical, err)
		}
		d.Policies = append(d.Policies, p)
	}
	for _, c := range t.config {
		v, _, _, err := evalText(sc, c.expr)
		if err != nil {
			return nil, at("DeviceConfiguration."+c.name, err)
		}
		d.Configuration[c.name] = v.String()
	}
	return d, nil
}

// checkParameters checks sizes, and for JITP that the certificate has every pseudo parameter that is declared, used or not
// (provisioning spec 4.6).
func (t *Template) checkParameters(sc *scope) error {
	for _, name := range slices.Sorted(maps.Keys(sc.params)) {
		v := sc.params[name]
		if name == "" || utf8.RuneCountInString(name) > MaxParameterName {
			return fleet.Invalid("", "", "the name of a parameter has 1 to %d characters", MaxParameterName)
		}
		if utf8.RuneCountInString(v) > MaxParameterValue || !utf8.ValidString(v) {
			return fleet.Invalid("", "", "the value of parameter %q must be valid UTF-8 of at most %d characters", clip(name), MaxParameterValue)
		}
	}
	if t.kind != JITP {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(t.parameters)) {
		if _, ok := sc.service[name]; !ok && strings.HasPrefix(name, pseudoPrefix) {
			return unresolved(name)
		}
	}
	return nil
}

// checks are the rules for values of properties, by the property's name.
var checks = map[string]func(string) error{
	"ThingName":          registryName("thing name"),
	"ThingTypeName":      registryName("thing type name"),
	"BillingGroup":       registryName("billing group name"),
	"ThingGroups":        registryName("thing group name"),
	"Status":             func(s string) error { _, err := certificateStatus(s); return err },
	"ThingPrincipalType": func(s string) error { return oneOf(s, string(fleet.Exclusive), string(fleet.NonExclusive)) },
	"PolicyName": func(s string) error {
		if !fleet.ValidPolicyName(s) {
			return fmt.Errorf(`%q is no policy name: those have 1 to 128 letters, digits and characters of _+=,.@-`, clip(s))
		}
		return nil
	},
}

func registryName(what string) func(string) error {
	return func(s string) error {
		if !fleet.ValidRegistryName(s) {
			return fmt.Errorf("%q is no %s: those have 1 to 128 letters, digits and characters of :_-", clip(s), what)
		}
		return nil
	}
}

// certificateStatus reads Status; documents in the wild write "Active" (provisioning spec 4.3).
func certificateStatus(s string) (fleet.CertificateStatus, error) {
	switch {
	case strings.EqualFold(s, string(fleet.Active)):
		return fleet.Active, nil
	case strings.EqualFold(s, string(fleet.Inactive)):
		return fleet.Inactive, nil
	}
	return "", fmt.Errorf("%q is none of ACTIVE, INACTIVE", clip(s))
}

// property evaluates a property of a resource and checks it. One that is absent, empty, or whose parameter has no value where
// the flow allows that, is nil unless it is required.
func (sc *scope) property(props map[string]expr, name string, required bool) (text, error) {
	e := props[name]
	if e == nil {
		return nil, nil
	}
	t, none, ok, err := evalText(sc, e)
	if err != nil {
		return nil, at("Properties."+name, err)
	}
	if !ok {
		if required {
			return nil, at("Properties."+name, errNoValue{none.missing})
		}
		return nil, nil
	}
	if !required && t.len() == 0 {
		return nil, nil
	}
	if check := checks[name]; check != nil {
		if err := check(t.String()); err != nil {
			return nil, at("Properties."+name, err)
		}
	}
	return t, nil
}

// evalThing also returns the device's serial number, if that is what makes the thing's name.
func (t *Template) evalThing(sc *scope, spec *thingSpec) (out *Thing, serial string, err error) {
	out = &Thing{Logical: spec.logical, Override: spec.override}
	for _, p := range []struct {
		name string
		into *string
	}{{"ThingName", &out.Name}, {"ThingTypeName", &out.Type}, {"BillingGroup", &out.BillingGroup}} {
		v, err := sc.property(spec.props, p.name, p.name == "ThingName")
		if err != nil {
			return nil, "", err
		}
		if *p.into = v.String(); p.name == "ThingName" {
			serial = serialIn(v, t.settings.SerialParameter, sc)
		}
	}
	if spec.hasAttributes {
		if out.Attributes, err = evalAttributes(sc, spec.attributes); err != nil {
			return nil, "", at("Properties.AttributePayload", err)
		}
	}
	if e := spec.props["ThingGroups"]; e != nil {
		if out.Groups, err = t.evalGroups(sc, e); err != nil {
			return nil, "", at("Properties.ThingGroups", err)
		}
	}
	return out, serial, nil
}

func evalAttributes(sc *scope, attributes []namedExpr) (map[string]string, error) {
	out := map[string]string{}
	for _, a := range attributes {
		v, _, ok, err := evalText(sc, a.expr)
		if err != nil {
			return nil, at(a.name, err)
		}
		if !ok {
			continue
		}
		if !fleet.ValidAttribute(a.name, v.String()) {
			return nil, fmt.Errorf("attribute %q may not have the value %q: names have 1 to 128 characters of a-zA-Z0-9_.,@/:#-, values up to 800 of the same and =[]", clip(a.name), clip(v.String()))
		}
		out[a.name] = v.String()
	}
	return out, nil
}

func (t *Template) evalGroups(sc *scope, e expr) ([]string, error) {
	v, ok, err := evalList(sc, e)
	if !ok {
		return nil, err
	}
	groups := []string{}
	for _, item := range v.list {
		if item.kind == noValue {
			continue
		}
		name := item.text.String()
		if err := checks["ThingGroups"](name); err != nil {
			return nil, err
		}
		if err := t.mayChoose(item.text, t.settings.AllowedThingGroups, "thing group", "AllowedThingGroups"); err != nil {
			return nil, err
		}
		if !slices.Contains(groups, name) {
			groups = append(groups, name)
		}
	}
	return groups, nil
}

// mayChoose refuses a name that comes from a parameter, unless the template lists it: policies and groups carry rights, and a
// device must not choose its own. Who calls RegisterThing over HTTPS wrote template and parameters alike.
func (t *Template) mayChoose(name text, listed []string, what, setting string) error {
	param := name.chosenBy()
	if param == "" || t.kind == Inline || slices.Contains(listed, name.String()) {
		return nil
	}
	return fleet.Invalid("", "", "parameter %q may not choose the %s %q: add it to %s in the template's Mappings.Imprint.Settings if it may",
		clip(param), what, clip(name.String()), setting)
}

func (t *Template) evalCertificate(sc *scope, spec *certSpec) (*Certificate, error) {
	out := &Certificate{Logical: spec.logical, Override: spec.override, Status: fleet.Active, PrincipalType: fleet.NonExclusive}
	for _, p := range []struct {
		name string
		into *string
	}{{"CertificateId", &out.ID}, {"CertificateSigningRequest", &out.CSR}, {"CertificatePem", &out.PEM}, {"CACertificatePem", &out.CAPEM}} {
		v, err := sc.property(spec.props, p.name, p.name == spec.source)
		if err != nil {
			return nil, err
		}
		*p.into = v.String()
	}
	status, err := sc.property(spec.props, "Status", false)
	if err != nil {
		return nil, err
	}
	if status != nil {
		out.Status, _ = certificateStatus(status.String()) // checked by property
	}
	principal, err := sc.property(spec.props, "ThingPrincipalType", false)
	if err == nil && principal == nil && t.thing != nil {
		principal, err = sc.property(t.thing.props, "ThingPrincipalType", false)
	}
	if err != nil {
		return nil, err
	}
	if principal != nil {
		out.PrincipalType = fleet.PrincipalType(principal.String())
	}
	return out, t.checkSource(sc, spec, out)
}

// checkSource checks where the certificate comes from. A stored template is about the certificate of the connection or of the
// ownership token and no other.
func (t *Template) checkSource(sc *scope, spec *certSpec, c *Certificate) error {
	place := "Properties." + spec.source
	switch {
	case c.ID == "" && c.CSR == "" && c.PEM == "":
		return at(place, errors.New("is empty"))
	case c.ID == "":
		return nil
	}
	c.ID = strings.ToLower(c.ID)
	if !fleet.ValidCertificateID(c.ID) {
		return at(place, fmt.Errorf("%q is no certificate id: those have 64 hex digits", clip(c.ID)))
	}
	if own := sc.service[CertificateID]; !sc.lenient && c.ID != own {
		return at(place, fmt.Errorf(`must be {"Ref": %q}`, CertificateID))
	}
	return nil
}

func (t *Template) evalPolicy(sc *scope, spec policySpec) (Policy, error) {
	out := Policy{Logical: spec.logical}
	if spec.doc == nil {
		name, err := sc.property(map[string]expr{"PolicyName": spec.name}, "PolicyName", true)
		if err != nil {
			return out, err
		}
		out.Name = name.String()
		return out, t.mayChoose(name, t.settings.AllowedPolicyNames, "policy", "AllowedPolicyNames")
	}
	doc, canonical, err := spec.doc.build(sc)
	if err != nil {
		return out, at("Properties.PolicyDocument", err)
	}
	out.Document, out.Name = doc, documentName(canonical)
	return out, nil
}
