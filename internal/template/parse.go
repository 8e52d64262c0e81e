package template

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Bounds of the service model (provisioning spec 4.2, 4.7).
const (
	MaxBody           = 10240 // characters of a template
	MaxParameterName  = 2048  // characters
	MaxParameterValue = 4096  // characters
)

// A Template is a parsed and checked body. It is immutable and safe for concurrent use.
type Template struct {
	kind       Kind
	parameters map[string]*string // name → Default, nil for none
	mappings   map[string]map[string]map[string]string
	settings   Settings

	thing    *thingSpec
	cert     *certSpec
	policies []policySpec
	config   []namedExpr // DeviceConfiguration
}

// Kind returns the kind that the template was parsed as.
func (t *Template) Kind() Kind { return t.kind }

// Settings returns what Mappings.Imprint says.
func (t *Template) Settings() Settings { return t.settings }

type namedExpr struct {
	name string
	expr expr
}

type thingSpec struct {
	logical       string
	props         map[string]expr // ThingName, ThingTypeName, BillingGroup, ThingGroups, ThingPrincipalType
	attributes    []namedExpr
	hasAttributes bool
	override      ThingOverride
}

type certSpec struct {
	logical  string
	source   string // the one of CertificateId, CertificateSigningRequest and CertificatePem that is given
	props    map[string]expr
	override Override
}

type policySpec struct {
	logical string
	name    expr // PolicyName, or nil
	doc     *document
}

// Parse reads and checks a body as CreateProvisioningTemplate does (provisioning spec 4.3, 4.10). Names that the body refers
// to need neither exist nor resolve. Errors have kind KindInvalid and say where in the body the mistake is.
func Parse(body string, kind Kind) (*Template, error) {
	t := &Template{kind: kind, parameters: map[string]*string{}, mappings: map[string]map[string]map[string]string{}}
	if n := utf8.RuneCountInString(body); n > MaxBody {
		return nil, invalid(fmt.Errorf("it has %d characters; at most %d are allowed", n, MaxBody))
	}
	n, err := decode(body)
	if err == nil && n.kind != objectNode {
		err = fmt.Errorf("must be an object, not %v", n.kind)
	}
	if err != nil {
		return nil, invalid(fmt.Errorf("the body %w", err))
	}
	if err := t.sections(n); err != nil {
		return nil, invalid(err)
	}
	return t, nil
}

// invalid words err as AWS words a bad template.
func invalid(err error) error {
	var e *fleet.Error
	if errors.As(err, &e) {
		return e
	}
	return fleet.Invalid("", "", "Invalid registration template. %s", err)
}

// at puts the place of a mistake before it. A domain error stays as it is: its text is fixed or says enough.
func at(place string, err error) error {
	var e *fleet.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	var inner *placed
	if errors.As(err, &inner) {
		return &placed{clip(place) + "." + inner.place, inner.err}
	}
	return &placed{clip(place), err}
}

type placed struct {
	place string
	err   error
}

func (p *placed) Error() string { return p.place + ": " + p.err.Error() }
func (p *placed) Unwrap() error { return p.err }

func (t *Template) sections(n node) error {
	for _, key := range n.keys {
		if !slices.Contains([]string{"Parameters", "Mappings", "Resources", "DeviceConfiguration"}, key) {
			return fmt.Errorf("%q is no section of a template; those are Parameters, Mappings, Resources and DeviceConfiguration", clip(key))
		}
	}
	if params, ok := n.get("Parameters"); ok {
		if err := members(params, t.parameter); err != nil {
			return at("Parameters", err)
		}
	}
	if mappings, ok := n.get("Mappings"); ok {
		if err := members(mappings, t.mapping); err != nil {
			return at("Mappings", err)
		}
	}
	var err error
	if t.settings, err = parseSettings(t.mappings[settingsMap]); err != nil {
		return at("Mappings.Imprint", err)
	}
	resources, ok := n.get("Resources")
	if !ok {
		return errors.New("the section Resources is missing")
	}
	if err := members(resources, t.resource); err != nil {
		return at("Resources", err)
	}
	if t.kind == JITP && t.cert == nil && len(resources.keys) > 0 {
		return errors.New("a JITP template needs a resource of type AWS::IoT::Certificate with CertificateId")
	}
	if err := t.checkSettings(); err != nil {
		return at("Mappings.Imprint", err)
	}
	config, ok := n.get("DeviceConfiguration")
	if !ok {
		return nil
	}
	if t.kind != Fleet {
		return errors.New("DeviceConfiguration belongs to fleet provisioning templates: here no device waits for it")
	}
	t.config, err = expressions(config)
	return at("DeviceConfiguration", err)
}

// members calls f for each member of an object.
func members(n node, f func(key string, value node) error) error {
	if n.kind != objectNode {
		return fmt.Errorf("must be an object, not %v", n.kind)
	}
	for i, key := range n.keys {
		if err := f(key, n.items[i]); err != nil {
			return at(key, err)
		}
	}
	return nil
}

func (t *Template) parameter(name string, n node) error {
	if name == "" || utf8.RuneCountInString(name) > MaxParameterName {
		return fmt.Errorf("a parameter's name has 1 to %d characters", MaxParameterName)
	}
	t.parameters[name] = nil
	typed := false
	err := members(n, func(key string, v node) error {
		switch {
		case key == "Type" && v.kind == stringNode && v.text == "String":
			typed = true
		case key == "Type":
			return errors.New(`the only type is "String"`)
		case key == "Default" && v.kind == stringNode:
			if utf8.RuneCountInString(v.text) > MaxParameterValue {
				return fmt.Errorf("has more than %d characters", MaxParameterValue)
			}
			t.parameters[name] = &v.text
		case key == "Default":
			return errors.New("must be a string")
		default:
			return errors.New("a parameter has a Type and a Default, nothing else")
		}
		return nil
	})
	if err == nil && !typed {
		err = errors.New(`"Type": "String" is missing`)
	}
	return err
}

func (t *Template) mapping(name string, n node) error {
	m := map[string]map[string]string{}
	t.mappings[name] = m
	return members(n, func(top string, n node) error {
		m[top] = map[string]string{}
		return members(n, func(second string, v node) error {
			if v.kind != stringNode {
				return fmt.Errorf("must be a string, not %v: Mappings hold literals in two levels", v.kind)
			}
			m[top][second] = v.text
			return nil
		})
	})
}

// expressions compiles a flat object of expressions.
func expressions(n node) ([]namedExpr, error) {
	out := []namedExpr{}
	err := members(n, func(name string, v node) error {
		if v.kind == arrayNode || v.kind == objectNode && !isFunction(v) {
			return fmt.Errorf("must be a string or a function: the object is flat")
		}
		e, err := compile(v)
		out = append(out, namedExpr{name, e})
		return err
	})
	return out, err
}
