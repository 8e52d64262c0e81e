package provision

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// maxVersions is how many versions a template may have (provisioning spec 10.1).
const maxVersions = 5

// defaultPayload is the hook's contract when none is named (provisioning spec 5).
const defaultPayload = "2020-04-01"

var (
	payloadVersion = fleet.NewPattern(`^[0-9-]{10,32}$`)
	lambdaARN      = fleet.NewPattern(`^arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,140}(:[A-Za-z0-9$_-]{1,128})?$`)
)

func templateARN(s fleet.Scope, name string) string { return s.IoT("provisioningtemplate", name) }

// enabled reports whether devices may use a template: only if somebody said so (provisioning spec 4.2). JITP differs, it is
// blocked by an explicit false alone.
func enabled(t fleet.Template) bool { return t.Enabled != nil && *t.Enabled }

// NewTemplate is what a template is made of.
type NewTemplate struct {
	Name        string
	Description string
	Body        string
	RoleARN     string
	Type        fleet.TemplateType // "": FLEET_PROVISIONING
	Enabled     *bool              // nil: not said
	Hook        *fleet.Hook
	Tags        []fleet.Tag
}

// CreateTemplate adds a template; its body is version 1 and the default. caller must be allowed to pass the role. Errors are of
// KindInvalid, KindDenied, KindExists and KindLimit.
func (p *Service) CreateTemplate(ctx context.Context, caller *fleet.Caller, n NewTemplate) (fleet.Template, error) {
	if n.Type == "" {
		n.Type = fleet.FleetProvisioning
	}
	t := fleet.Template{Name: n.Name, Description: n.Description, Type: n.Type, RoleARN: n.RoleARN, Enabled: n.Enabled, Default: 1, Body: n.Body, Hook: n.Hook,
		Generation: fleet.NewUUID()}
	if err := checkTemplate(&t); err != nil {
		return t, err
	}
	s := caller.Scope
	if err := p.checkBody(ctx, s, t); err != nil {
		return t, err
	}
	if err := p.passRole(ctx, caller, n.RoleARN); err != nil {
		return t, err
	}
	err := p.Store.Tx(ctx, func(tx *store.Tx) error {
		t.Created, t.Modified = tx.Now(), tx.Now()
		if err := p.knownHook(tx, s, t.Hook); err != nil {
			return err
		}
		if err := tx.CreateTemplate(s, t); err != nil {
			return err
		}
		count, err := tx.CountTemplates(s)
		if err == nil && count > p.Limits.Templates {
			err = fleet.OverLimit("provisioning template", t.Name, "would be one too many: %d are allowed; delete one that is not used", p.Limits.Templates)
		}
		if err != nil || len(n.Tags) == 0 {
			return err
		}
		return registry.Tag(tx, s, templateARN(s, t.Name), n.Tags)
	})
	return t, err
}

// checkTemplate checks everything but the body, and gives a hook its default contract.
func checkTemplate(t *fleet.Template) error {
	switch {
	case !fleet.ValidTemplateName(t.Name):
		return fleet.Invalid("provisioning template", t.Name, "a name has 1 to 36 letters, digits and characters of _-")
	case t.Type != fleet.FleetProvisioning && t.Type != fleet.JITP:
		return fleet.Invalid("provisioning template", t.Name, "type %q is neither FLEET_PROVISIONING nor JITP", t.Type)
	case utf8.RuneCountInString(t.Description) > 500 || strings.ContainsFunc(t.Description, unicode.IsControl):
		return fleet.Invalid("provisioning template", t.Name, "a description has at most 500 characters and no control characters")
	case !roleARN(t.RoleARN):
		return fleet.Invalid("provisioning template", t.Name, "provisioningRoleArn %q is not the ARN of a role: those look like arn:aws:iam::123456789012:role/NAME", t.RoleARN)
	case t.Hook != nil && t.Type == fleet.JITP:
		return fleet.Invalid("provisioning template", t.Name, "templates of type JITP have no pre-provisioning hook")
	case t.Hook == nil:
		return nil
	}
	h := *t.Hook
	if h.PayloadVersion == "" {
		h.PayloadVersion = defaultPayload
	}
	t.Hook = &h
	switch {
	case !payloadVersion.MatchString(h.PayloadVersion):
		return fleet.Invalid("provisioning template", t.Name, "payloadVersion %q has not the form of 2020-04-01", h.PayloadVersion)
	case !lambdaARN.MatchString(h.TargetARN):
		return fleet.Invalid("provisioning template", t.Name, "targetArn %q is not the ARN of a Lambda function", h.TargetARN)
	}
	return nil
}

// knownHook checks that a hook that somebody sets can be called, so that a mistake shows here and not in the field.
func (p *Service) knownHook(tx *store.Tx, s fleet.Scope, h *fleet.Hook) error {
	if h == nil || p.Hook == nil {
		return nil
	}
	return p.Hook.Known(tx, s, h.TargetARN)
}

func roleARN(s string) bool {
	a, ok := fleet.ParseARN(s)
	return ok && a.Service == "iam" && a.Region == "" && strings.HasPrefix(a.Resource, "role/") && len(s) <= 2048
}

// passRole checks that caller may let the service use a role of this account.
func (p *Service) passRole(ctx context.Context, caller *fleet.Caller, role string) error {
	if a, _ := fleet.ParseARN(role); a.Account != caller.Scope.Account {
		return fleet.Invalid("role", role, "belongs to another account")
	}
	return p.Permissions.PassRole(ctx, caller, role, iotService)
}

// TemplateChange says what to change about a template; nil and zero fields leave things as they are.
type TemplateChange struct {
	Description *string
	Enabled     *bool
	Default     *int // id of the version that shall be live
	RoleARN     *string
	Hook        *fleet.Hook
	RemoveHook  bool
}

// UpdateTemplate changes a template. caller must be allowed to pass a new role. Errors are of KindInvalid, KindDenied and KindNotFound.
func (p *Service) UpdateTemplate(ctx context.Context, caller *fleet.Caller, name string, c TemplateChange) error {
	if c.Hook != nil && c.RemoveHook {
		return fleet.Invalid("provisioning template", name, "a hook cannot be set and removed at once")
	}
	s := caller.Scope
	if c.RoleARN != nil {
		if !roleARN(*c.RoleARN) {
			return fleet.Invalid("provisioning template", name, "provisioningRoleArn %q is not the ARN of a role", *c.RoleARN)
		}
		if err := p.passRole(ctx, caller, *c.RoleARN); err != nil {
			return err
		}
	}
	return p.Store.Tx(ctx, func(tx *store.Tx) error {
		t, err := tx.Template(s, name)
		if err != nil {
			return err
		}
		if err := c.apply(tx, s, &t); err != nil {
			return err
		}
		if err := p.knownHook(tx, s, c.Hook); err != nil {
			return err
		}
		return tx.UpdateTemplate(s, t)
	})
}

func (c TemplateChange) apply(tx *store.Tx, s fleet.Scope, t *fleet.Template) error {
	if c.Description != nil {
		t.Description = *c.Description
	}
	if c.Enabled != nil {
		t.Enabled = c.Enabled
	}
	if c.RoleARN != nil {
		t.RoleARN = *c.RoleARN
	}
	if c.Default != nil {
		if _, err := tx.TemplateVersion(s, t.Name, *c.Default); err != nil {
			return err
		}
		t.Default = *c.Default
	}
	switch {
	case c.RemoveHook:
		t.Hook = nil
	case c.Hook != nil:
		t.Hook = c.Hook
	}
	return checkTemplate(t)
}

// DeleteTemplate removes a template with its versions; claims for it stop working at once. It fails with KindNotFound, and with KindInUse
// while a CA provisions with it.
func (p *Service) DeleteTemplate(ctx context.Context, s fleet.Scope, name string) error {
	return p.Store.Tx(ctx, func(tx *store.Tx) error {
		cas, _, err := tx.CAs(s, name, fleet.Page{Limit: 1})
		if err == nil && len(cas) > 0 {
			err = fleet.InUse("provisioning template", name, "is in the registrationConfig of the CA certificate %s: give that another one first", cas[0].ID)
		}
		if err != nil {
			return err
		}
		return tx.DeleteTemplate(s, name)
	})
}

// CreateTemplateVersion adds a body to a template. Errors are of KindInvalid, KindNotFound, KindConflict and KindVersionsLimit.
func (p *Service) CreateTemplateVersion(ctx context.Context, s fleet.Scope, name, body string, setDefault bool) (v fleet.TemplateVersion, err error) {
	var t fleet.Template
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		t, err = tx.Template(s, name)
		return err
	})
	if err != nil {
		return v, err
	}
	t.Body = body
	if err := p.checkBody(ctx, s, t); err != nil {
		return v, err
	}
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		now, err := tx.Template(s, name)
		if err != nil {
			return err
		}
		if now.Generation != t.Generation { // maybe of another type, which the body was not checked for
			return &fleet.Error{Kind: fleet.KindConflict, Resource: "provisioning template", Name: name, Msg: "was deleted and created anew meanwhile: try again"}
		}
		versions, _, err := tx.TemplateVersions(s, name, fleet.Page{})
		if err != nil {
			return err
		}
		if len(versions) >= maxVersions {
			return &fleet.Error{Kind: fleet.KindVersionsLimit, Resource: "provisioning template", Name: name,
				Msg: "already has the maximum number of versions (5): delete one that is not the default"}
		}
		v, err = tx.AddTemplateVersion(s, name, body, setDefault)
		return err
	})
	return v, err
}

// DeleteTemplateVersion removes a version other than the default. Errors are of KindNotFound and KindInUse.
func (p *Service) DeleteTemplateVersion(ctx context.Context, s fleet.Scope, name string, id int) error {
	return p.Store.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Template(s, name); err != nil {
			return err
		}
		v, err := tx.TemplateVersion(s, name, id)
		if err != nil {
			return err
		}
		if v.Default {
			return fleet.InUse("provisioning template", name, "version %d is the default: make another version the default first, or delete the template", id)
		}
		return tx.DeleteTemplateVersion(s, name, id)
	})
}

// parsedTemplates keeps templates that were parsed, by kind and body: bodies never change, and parsing costs more than the rest of
// an evaluation.
type parsedTemplates struct {
	memo[parsedKey, *template.Template]
}

type parsedKey struct {
	kind template.Kind
	body string
}

func (c *parsedTemplates) parse(body string, kind template.Kind) (*template.Template, error) {
	return c.get(parsedKey{kind, body}, func() (*template.Template, error) { return template.Parse(body, kind) })
}
