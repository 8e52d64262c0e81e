package provision

import (
	"regexp"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/store"
)

// namedTemplates finds the templates that resources of a policy name, patterns too.
var namedTemplates = regexp.MustCompile(`:topic/\$aws/provisioning-templates/([^/"]*)`)

// unnamed is a template that no policy names: who may use it is not bound to some.
const unnamed = "no-template-of-this-name"

// boundTo returns the template that a bootstrap certificate is good for, where its policies name one and allow no other; else "". A
// policy that is written in a way that is not understood here binds to none.
func boundTo(tx *store.Tx, s fleet.Scope, certificate string) (name string, err error) {
	list, err := tx.EffectivePolicies(s, s.IoT("cert", certificate), "")
	if err != nil {
		return "", err
	}
	var docs []policy.Named
	for _, p := range list {
		for _, m := range namedTemplates.FindAllStringSubmatch(p.Document, -1) {
			if name != "" && name != m[1] {
				return "", nil
			}
			name = m[1]
		}
		doc, err := policy.Parse(p.Document, policy.IoT)
		if err != nil {
			return "", nil // it was checked when it was stored
		}
		docs = append(docs, policy.Named{Name: p.Name, Doc: doc})
	}
	if !fleet.ValidTemplateName(name) || !mayRegister(docs, s, name) || mayRegister(docs, s, unnamed) {
		return "", nil
	}
	return name, nil
}

// mayRegister reports whether policies could allow to register devices with a template.
func mayRegister(docs []policy.Named, s fleet.Scope, template string) bool {
	for _, f := range reserved.Formats {
		if mayPublish(docs, s, reserved.Register.Topic(template, f)) {
			return true
		}
	}
	return false
}

func mayPublish(docs []policy.Named, s fleet.Scope, topic string) bool {
	return policy.Evaluate(docs, policy.Request{Action: "iot:Publish", Resource: s.IoT("topic", topic), Partial: true}).Allowed()
}
