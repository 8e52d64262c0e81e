package store

import (
	"strconv"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Kinds of Change of provisioning, and their keys.
const (
	ChangedTemplate = "template" // template name: created, updated, another default version, deleted
	ChangedClaim    = "claim"    // claim id: created, revoked, deleted
)

const templateColumns = `t.name, t.description, t.type, t.role_arn, t.enabled, t.default_version, t.hook_version, t.hook_target, t.created, t.modified, t.generation`

func scanTemplate(s scanner) (t fleet.Template, err error) {
	var typ string
	var enabled int
	var hook fleet.Hook
	var created, modified int64
	err = s.Scan(&t.Name, &t.Description, &typ, &t.RoleARN, &enabled, &t.Default, &hook.PayloadVersion, &hook.TargetARN, &created, &modified, &t.Generation)
	t.Type, t.Created, t.Modified = fleet.TemplateType(typ), fromMillis(created), fromMillis(modified)
	if enabled != 0 {
		t.Enabled = new(enabled == 1)
	}
	if hook.TargetARN != "" {
		t.Hook = &hook
	}
	return t, err
}

func enabledColumn(enabled *bool) int {
	switch {
	case enabled == nil:
		return 0
	case *enabled:
		return 1
	}
	return 2
}

func hookColumns(h *fleet.Hook) fleet.Hook {
	if h == nil {
		return fleet.Hook{}
	}
	return *h
}

// Template returns a template with the body of its default version. It fails with KindNotFound.
func (tx *Tx) Template(s fleet.Scope, name string) (fleet.Template, error) {
	return remembered(tx, Change{s, ChangedTemplate, name}, "", func() (fleet.Template, error) {
		return find(tx, "provisioning template", name, func(row scanner) (t fleet.Template, err error) {
			var body string
			t, err = scanTemplate(appendScan{row, []any{&body}})
			t.Body = body
			return t, err
		}, `SELECT `+templateColumns+`, v.body FROM templates t
			JOIN template_versions v ON v.account = t.account AND v.region = t.region AND v.template = t.name AND v.id = t.default_version
			WHERE t.account = ? AND t.region = ? AND t.name = ?`, s.Account, s.Region, name)
	})
}

// Templates lists templates by name, without their bodies.
func (tx *Tx) Templates(s fleet.Scope, p fleet.Page) ([]fleet.Template, string, error) {
	list, err := all(tx, scanTemplate, `SELECT `+templateColumns+` FROM templates t
		WHERE t.account = ? AND t.region = ? AND t.name > ? ORDER BY t.name LIMIT ?`, s.Account, s.Region, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(t fleet.Template) string { return t.Name })
	return list, next, err
}

// CountTemplates returns how many templates the scope has.
func (tx *Tx) CountTemplates(s fleet.Scope) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM templates WHERE account = ? AND region = ?`, s.Account, s.Region).Scan(&n)
	return n, err
}

// CreateTemplate adds a template with its body as version 1. It fails with KindExists.
func (tx *Tx) CreateTemplate(s fleet.Scope, t fleet.Template) error {
	h := hookColumns(t.Hook)
	added, err := tx.insert(`INSERT INTO templates (account, region, name, description, type, role_arn, enabled, default_version, last_version,
		hook_version, hook_target, created, modified, generation) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, t.Name, t.Description, string(t.Type), t.RoleARN, enabledColumn(t.Enabled),
		h.PayloadVersion, h.TargetARN, millis(t.Created), millis(t.Modified), t.Generation)
	if err == nil && !added {
		// AWS's text (provisioning spec 4.2).
		return &fleet.Error{Kind: fleet.KindExists, Msg: "Template with name " + t.Name + " already exists"}
	}
	if err != nil {
		return err
	}
	_, err = tx.AddTemplateVersion(s, t.Name, t.Body, true)
	return err
}

// UpdateTemplate stores description, role, enabled flag, default version and hook of t and sets its time of modification.
func (tx *Tx) UpdateTemplate(s fleet.Scope, t fleet.Template) error {
	h := hookColumns(t.Hook)
	_, err := tx.exec(`UPDATE templates SET description = ?, role_arn = ?, enabled = ?, default_version = ?, hook_version = ?, hook_target = ?, modified = ?
		WHERE account = ? AND region = ? AND name = ?`,
		t.Description, t.RoleARN, enabledColumn(t.Enabled), t.Default, h.PayloadVersion, h.TargetARN, millis(tx.Now()), s.Account, s.Region, t.Name)
	tx.Changed(s, ChangedTemplate, t.Name)
	return err
}

// DeleteTemplate removes a template with its versions and tags. It fails with KindNotFound.
func (tx *Tx) DeleteTemplate(s fleet.Scope, name string) error {
	found, err := changedRows(tx.exec(`DELETE FROM templates WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name))
	if err != nil {
		return err
	}
	if !found {
		return fleet.NotFound("provisioning template", name)
	}
	if _, err := tx.exec(`DELETE FROM template_versions WHERE account = ? AND region = ? AND template = ?`, s.Account, s.Region, name); err != nil {
		return err
	}
	tx.Changed(s, ChangedTemplate, name)
	return tx.deleteTags(s, "provisioningtemplate/"+name)
}

func scanTemplateVersion(s scanner) (v fleet.TemplateVersion, err error) {
	var created int64
	err = s.Scan(&v.ID, &v.Body, &created, &v.Default)
	v.Created = fromMillis(created)
	return v, err
}

const fromTemplateVersions = ` FROM template_versions v JOIN templates t ON t.account = v.account AND t.region = v.region AND t.name = v.template
	WHERE v.account = ? AND v.region = ? AND v.template = ?`

// TemplateVersion returns one version of a template. It fails with KindNotFound.
func (tx *Tx) TemplateVersion(s fleet.Scope, name string, id int) (fleet.TemplateVersion, error) {
	return find(tx, "provisioning template version", name+"/"+strconv.Itoa(id), scanTemplateVersion,
		`SELECT v.id, v.body, v.created, v.id = t.default_version`+fromTemplateVersions+` AND v.id = ?`,
		s.Account, s.Region, name, id)
}

// TemplateVersions lists the versions of a template by id, without their bodies. Page.After is an id as text. The list of an
// unknown template is empty.
func (tx *Tx) TemplateVersions(s fleet.Scope, name string, p fleet.Page) ([]fleet.TemplateVersion, string, error) {
	after, _ := strconv.Atoi(p.After) // what isn't a number begins at the first
	list, err := all(tx, scanTemplateVersion, `SELECT v.id, '', v.created, v.id = t.default_version`+fromTemplateVersions+` AND v.id > ?
		ORDER BY v.id LIMIT ?`, s.Account, s.Region, name, after, pageLimit(p))
	list, next := cutPage(p, list, func(v fleet.TemplateVersion) string { return strconv.Itoa(v.ID) })
	return list, next, err
}

// AddTemplateVersion adds a body to a template under the next id, and makes it the default if asked. It fails with KindNotFound.
func (tx *Tx) AddTemplateVersion(s fleet.Scope, name, body string, setDefault bool) (fleet.TemplateVersion, error) {
	v := fleet.TemplateVersion{Body: body, Default: setDefault, Created: tx.Now()}
	err := tx.row(`UPDATE templates SET last_version = last_version + 1, modified = ?,
			default_version = CASE WHEN ? THEN last_version + 1 ELSE default_version END
		WHERE account = ? AND region = ? AND name = ? RETURNING last_version`,
		millis(v.Created), setDefault, s.Account, s.Region, name).Scan(&v.ID)
	if noRows(err) {
		return v, fleet.NotFound("provisioning template", name)
	}
	if err != nil {
		return v, err
	}
	_, err = tx.exec(`INSERT INTO template_versions (account, region, template, id, body, created) VALUES (?, ?, ?, ?, ?, ?)`,
		s.Account, s.Region, name, v.ID, body, millis(v.Created))
	tx.Changed(s, ChangedTemplate, name)
	return v, err
}

// DeleteTemplateVersion removes one version, which must not be the default.
func (tx *Tx) DeleteTemplateVersion(s fleet.Scope, name string, id int) error {
	_, err := tx.exec(`DELETE FROM template_versions WHERE account = ? AND region = ? AND template = ? AND id = ?`, s.Account, s.Region, name, id)
	return err
}
