package template

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// errNoPolicy is AWS's text (provisioning spec 4.10).
var errNoPolicy = errors.New("Neither policyName nor policyDocument is present in the Template.")

// A form is how a property is written.
type form int

const (
	stringForm  form = iota // an expression of a string
	listForm                // an expression of a list, or a list of expressions
	mapForm                 // a flat object of expressions
	policyForm              // a PolicyDocument
	ignoredForm             // read by AWS only
)

// properties lists what each type of resource may have (provisioning spec 4.3).
var properties = map[string]map[string]form{
	"AWS::IoT::Thing": {"ThingName": stringForm, "AttributePayload": mapForm, "ThingTypeName": stringForm, "ThingGroups": listForm,
		"BillingGroup": stringForm, "ThingPrincipalType": stringForm, "PackageVersions": ignoredForm},
	"AWS::IoT::Certificate": {"CertificateId": stringForm, "CertificateSigningRequest": stringForm, "CertificatePem": stringForm,
		"CACertificatePem": stringForm, "Status": stringForm, "ThingPrincipalType": stringForm},
	"AWS::IoT::Policy": {"PolicyName": stringForm, "PolicyDocument": policyForm},
}

// overrides lists the settable parts of each type in both spellings of the guide, and what they may be (provisioning spec 4.4).
var overrides = map[string]map[string][]Override{
	"AWS::IoT::Thing": {
		"AttributePayload": {DoNothing, Replace, Fail, Merge}, "ATTRIBUTE_PAYLOAD": {DoNothing, Replace, Fail, Merge},
		"ThingTypeName": {DoNothing, Replace, Fail}, "THING_TYPE_NAME": {DoNothing, Replace, Fail},
		"ThingGroups": {DoNothing, Replace, Fail, Merge}, "THING_GROUPS": {DoNothing, Replace, Fail, Merge},
	},
	"AWS::IoT::Certificate": {"Status": {DoNothing, Replace, Fail}, "STATUS": {DoNothing, Replace, Fail}},
}

// canonicalPart gives the CamelCase spelling.
var canonicalPart = map[string]string{"ATTRIBUTE_PAYLOAD": "AttributePayload", "THING_TYPE_NAME": "ThingTypeName", "THING_GROUPS": "ThingGroups", "STATUS": "Status"}

// parsedResource is a resource before it is known what it becomes.
type parsedResource struct {
	kind     string
	exprs    map[string]expr
	maps     map[string][]namedExpr
	doc      *document
	override map[string]Override
}

func (t *Template) resource(logical string, n node) error {
	r := parsedResource{exprs: map[string]expr{}, maps: map[string][]namedExpr{}, override: map[string]Override{}}
	if typ, ok := n.get("Type"); ok && typ.kind == stringNode {
		r.kind = typ.text
	}
	if _, ok := properties[r.kind]; !ok {
		return at("Type", fmt.Errorf("is none of %s", strings.Join(slices.Sorted(maps.Keys(properties)), ", ")))
	}
	err := members(n, func(key string, v node) error {
		switch key {
		case "Type":
			return nil
		case "Properties":
			return members(v, r.property)
		case "OverrideSettings":
			return members(v, r.overrideSetting)
		}
		return errors.New("a resource has Type, Properties and OverrideSettings, nothing else")
	})
	if err != nil {
		return err
	}
	switch r.kind {
	case "AWS::IoT::Thing":
		return t.addThing(logical, r)
	case "AWS::IoT::Certificate":
		return t.addCertificate(logical, r)
	}
	return t.addPolicy(logical, r)
}

func (r *parsedResource) property(name string, v node) (err error) {
	f, ok := properties[r.kind][name]
	if !ok {
		return fmt.Errorf("is no property of %s; those are %s", r.kind, strings.Join(slices.Sorted(maps.Keys(properties[r.kind])), ", "))
	}
	switch f {
	case stringForm:
		if v.kind == arrayNode {
			return errors.New("must be a string, not an array")
		}
		r.exprs[name], err = compile(v)
	case listForm:
		if v.kind != arrayNode && !isFunction(v) {
			return fmt.Errorf("must be a list, not %v", v.kind)
		}
		r.exprs[name], err = compile(v)
	case mapForm:
		r.maps[name], err = expressions(v)
	case policyForm:
		r.doc, err = compileDocument(v)
	}
	return err
}

func (r *parsedResource) overrideSetting(part string, v node) error {
	allowed, ok := overrides[r.kind][part]
	if !ok {
		return fmt.Errorf("OverrideSettings of %s have no such part", r.kind)
	}
	if v.kind != stringNode || !slices.Contains(allowed, Override(v.text)) {
		return fmt.Errorf("must be one of %v, written out", allowed)
	}
	if c, ok := canonicalPart[part]; ok {
		part = c
	}
	if _, twice := r.override[part]; twice {
		return errors.New("is given in both spellings")
	}
	r.override[part] = Override(v.text)
	return nil
}

func (r *parsedResource) overrideOf(part string, or Override) Override {
	if o, ok := r.override[part]; ok {
		return o
	}
	return or
}

func (t *Template) addThing(logical string, r parsedResource) error {
	if t.thing != nil {
		return errors.New("a template has at most one thing")
	}
	if r.exprs["ThingName"] == nil {
		return at("Properties", errors.New("ThingName is missing"))
	}
	attributes, has := r.maps["AttributePayload"]
	t.thing = &thingSpec{logical: logical, props: r.exprs, attributes: attributes, hasAttributes: has, override: ThingOverride{
		Attributes: r.overrideOf("AttributePayload", DoNothing),
		Type:       r.overrideOf("ThingTypeName", DoNothing),
		Groups:     r.overrideOf("ThingGroups", DoNothing),
	}}
	return t.constants("Properties", r.exprs)
}

func (t *Template) addCertificate(logical string, r parsedResource) error {
	if t.cert != nil {
		return errors.New("a template has at most one certificate")
	}
	var sources []string
	for _, s := range []string{"CertificateId", "CertificateSigningRequest", "CertificatePem"} {
		if r.exprs[s] != nil {
			sources = append(sources, s)
		}
	}
	stored := t.kind == Fleet || t.kind == JITP
	switch {
	case len(sources) != 1:
		return at("Properties", fmt.Errorf("exactly one of CertificateId, CertificateSigningRequest and CertificatePem is needed, found %d", len(sources)))
	case stored && sources[0] != "CertificateId":
		return at("Properties", fmt.Errorf("%s is for RegisterThing and bulk registration; here the certificate is given as CertificateId", sources[0]))
	case r.exprs["CACertificatePem"] != nil && sources[0] != "CertificatePem":
		return at("Properties", errors.New("CACertificatePem goes with CertificatePem only"))
	}
	t.cert = &certSpec{logical: logical, source: sources[0], props: r.exprs, override: r.overrideOf("Status", Replace)}
	return t.constants("Properties", r.exprs)
}

func (t *Template) addPolicy(logical string, r parsedResource) error {
	name := r.exprs["PolicyName"]
	if c, ok := name.(constant); ok && c.v.text.String() == "" {
		name = nil
	}
	switch {
	case name == nil && r.doc == nil:
		return fleet.Invalid("", "", "Invalid registration template. %s", errNoPolicy)
	case name != nil && r.doc != nil:
		return at("Properties", errors.New("PolicyName and PolicyDocument exclude each other"))
	}
	t.policies = append(t.policies, policySpec{logical, name, r.doc})
	return t.constants("Properties", r.exprs)
}

// constants checks the properties that need no parameter, so that a typing mistake shows when the template is created.
func (t *Template) constants(place string, props map[string]expr) error {
	for _, name := range slices.Sorted(maps.Keys(props)) {
		c, ok := props[name].(constant)
		if !ok || c.v.text.len() == 0 && name != "ThingName" {
			continue
		}
		if check, ok := checks[name]; ok {
			if err := check(c.v.text.String()); err != nil {
				return at(place, at(name, err))
			}
		}
	}
	return nil
}
