package userpool

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A SchemaAttribute describes what an attribute of a user may hold.
type SchemaAttribute struct {
	Name          string // as users carry it: "email", "custom:site", "dev:custom:score"
	Type          string // String, Number, DateTime, Boolean
	DeveloperOnly bool
	Mutable       bool
	Required      bool
	Length        *Bounds // of String
	Range         *Bounds // of Number
}

// Bounds are decimal numbers as text, so that a description comes back as it was given; empty: no bound.
type Bounds struct{ Min, Max string }

const (
	maxCustomAttributes = 50
	maxAttributeValue   = 2048
)

// standardAttributes is the schema that every pool begins with (identity spec 1.2, OpenID Connect Core 5.1).
var standardAttributes = func() []SchemaAttribute {
	text := func(name string) SchemaAttribute {
		return SchemaAttribute{Name: name, Type: "String", Mutable: true, Length: &Bounds{"0", "2048"}}
	}
	flag := func(name string) SchemaAttribute { return SchemaAttribute{Name: name, Type: "Boolean", Mutable: true} }
	return []SchemaAttribute{
		{Name: "sub", Type: "String", Required: true, Length: &Bounds{"1", "2048"}},
		text("name"), text("given_name"), text("family_name"), text("middle_name"), text("nickname"), text("preferred_username"),
		text("profile"), text("picture"), text("website"), text("email"), flag("email_verified"), text("gender"),
		{Name: "birthdate", Type: "String", Mutable: true, Length: &Bounds{"10", "10"}},
		text("zoneinfo"), text("locale"), text("phone_number"), flag("phone_number_verified"), text("address"),
		{Name: "updated_at", Type: "Number", Mutable: true, Range: &Bounds{Min: "0"}},
	}
}()

var attributeName = fleet.NewPattern(`^[\p{L}\p{M}\p{S}\p{N}\p{P}]{1,20}$`)

// newSchema joins the standard attributes and what a pool's maker asked for: other settings for a standard attribute, or a
// custom attribute by its bare name.
func newSchema(asked []SchemaAttribute) ([]SchemaAttribute, error) {
	schema := slices.Clone(standardAttributes)
	for _, a := range asked {
		i := slices.IndexFunc(schema, func(s SchemaAttribute) bool { return s.Name == a.Name })
		if i < 0 {
			var err error
			if schema, err = addCustom(schema, a); err != nil {
				return nil, err
			}
			continue
		}
		s := schema[i]
		if a.Type != "" && a.Type != s.Type {
			return nil, invalid("You can not change AttributeDataType or set developerOnlyAttribute for standard schema attribute " + a.Name)
		}
		if a.Name == "sub" {
			continue
		}
		s.Required, s.Mutable = a.Required, a.Mutable
		if a.Length != nil {
			s.Length = a.Length
		}
		if a.Range != nil {
			s.Range = a.Range
		}
		schema[i] = s
	}
	return schema, nil
}

// addCustom appends a custom attribute given by its bare name.
func addCustom(schema []SchemaAttribute, a SchemaAttribute) ([]SchemaAttribute, error) {
	prefix := "custom:"
	if a.DeveloperOnly {
		prefix = "dev:custom:"
	}
	switch {
	case !attributeName.MatchString(a.Name):
		return nil, invalid("Custom attribute name " + strconv.Quote(a.Name) + " must have 1 to 20 characters.")
	case a.Required:
		return nil, invalid("Required custom attributes are not supported currently.")
	case len(schema)-len(standardAttributes) >= maxCustomAttributes:
		return nil, overLimit("A user pool holds at most 50 custom attributes.")
	}
	if a.Type == "" {
		a.Type = "String"
	}
	a.Name = prefix + a.Name
	for _, bound := range []*Bounds{a.Length, a.Range} {
		if bound != nil && !(isNumber(bound.Min) && isNumber(bound.Max)) {
			return nil, invalid("The bounds of attribute " + a.Name + " must be numbers.")
		}
	}
	if slices.ContainsFunc(schema, func(s SchemaAttribute) bool { return s.Name == a.Name }) {
		return nil, invalid(a.Name + ": Existing attribute already has name " + a.Name + ".")
	}
	return append(schema, a), nil
}

func isNumber(s string) bool {
	_, ok := new(big.Float).SetString(s)
	return ok || s == ""
}

func (p *Pool) attribute(name string) (SchemaAttribute, bool) {
	for _, a := range p.Schema {
		if a.Name == name {
			return a, true
		}
	}
	return SchemaAttribute{}, false
}

// requiredAttributes lists what sign-up must bring, by name.
func (p *Pool) requiredAttributes() []string {
	var names []string
	for _, a := range p.Schema {
		if a.Required && a.Name != "sub" {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names
}

// checkAttributes refuses attributes that the schema does not know or allow. who may write what is another question.
func (p *Pool) checkAttributes(attributes map[string]string) error {
	for _, name := range sortedKeys(attributes) {
		value := attributes[name]
		a, known := p.attribute(name)
		if !known {
			return invalid("Attributes did not conform to the schema: Type for attribute {" + name + "} could not be determined")
		}
		if why := a.refuses(value); why != "" {
			return schemaError(name, why)
		}
		switch {
		case name == "email" && value != "" && !isEmail(value):
			return invalid("Invalid email address format.")
		case name == "phone_number" && value != "" && !isPhone(value):
			return invalid("Invalid phone number format.")
		}
	}
	return nil
}

// refuses returns why a value does not fit, "" if it does.
func (a SchemaAttribute) refuses(value string) string {
	if len(value) > maxAttributeValue {
		return "String must be no longer than 2048 characters"
	}
	switch a.Type {
	case "String":
		return a.Length.refuse(int64(utf8.RuneCountInString(value)), "String must be at least %s characters", "String must be no longer than %s characters")
	case "Number":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return "The attribute must be a whole number"
		}
		return a.Range.refuse(n, "Number must be at least %s", "Number must be at most %s")
	case "Boolean":
		if value != "true" && value != "false" {
			return "The attribute must be true or false"
		}
	case "DateTime":
		if _, err := strconv.ParseInt(value, 10, 64); err == nil {
			return ""
		}
		if _, err := time.Parse(time.RFC3339, value); err == nil {
			return ""
		}
		if _, err := time.Parse(time.DateOnly, value); err != nil {
			return "The attribute must be a date such as 2026-11-21T08:00:00Z"
		}
	}
	return ""
}

func (b *Bounds) refuse(n int64, tooSmall, tooLarge string) string {
	if b == nil {
		return ""
	}
	if low, err := strconv.ParseInt(b.Min, 10, 64); err == nil && n < low {
		return strings.Replace(tooSmall, "%s", b.Min, 1)
	}
	if high, err := strconv.ParseInt(b.Max, 10, 64); err == nil && n > high {
		return strings.Replace(tooLarge, "%s", b.Max, 1)
	}
	return ""
}

var (
	emailForm = fleet.NewPattern(`^[^\s@]+@[^\s@]+$`)
	phoneForm = fleet.NewPattern(`^\+[0-9]{1,15}$`)
)

func isEmail(s string) bool { return emailForm.MatchString(s) }
func isPhone(s string) bool { return phoneForm.MatchString(s) }
