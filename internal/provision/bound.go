package provision

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/store"
)

// unnamed is a template that no policy names: who may use it is not bound to some.
const unnamed = "no-template-of-this-name"

// boundTemplates keeps what policies come to, by their scope and documents: to parse and to evaluate them takes longer than all else that a
// request for a certificate does in the store.
type boundTemplates struct{ memo[string, string] }

// boundTo returns the template that a bootstrap certificate is good for, where its policies name one and allow no other; else "". A
// policy that is written in a way that is not understood here binds to none.
func (p *Service) boundTo(tx *store.Tx, s fleet.Scope, certificate string) (string, error) {
	list, err := tx.EffectivePolicies(s, s.IoT("cert", certificate), "")
	if err != nil {
		return "", err
	}
	documents := make([]string, 0, len(list)+1)
	documents = append(documents, s.String())
	for _, e := range list {
		documents = append(documents, e.Document)
	}
	return p.bound.get(strings.Join(documents, "\x00"), func() (string, error) { return soleTemplate(s, documents[1:]), nil })
}

// soleTemplate returns the template that policies name, if they name one and allow no other; else "".
func soleTemplate(s fleet.Scope, documents []string) (name string) {
	var docs []policy.Named
	for _, text := range documents {
		for named := range templatesIn(text) {
			if name != "" && name != named {
				return ""
			}
			name = named
		}
		doc, err := policy.Parse(text, policy.IoT)
		if err != nil {
			return "" // it was checked when it was stored
		}
		docs = append(docs, policy.Named{Doc: doc})
	}
	if !fleet.ValidTemplateName(name) || !mayRegister(docs, s, name) || mayRegister(docs, s, unnamed) {
		return ""
	}
	return name
}

// templatesIn finds the templates that resources of a policy name, patterns too.
func templatesIn(document string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, after, found := strings.Cut(document, ":topic/"+reserved.PrefixTemplates); found; _, after, found = strings.Cut(after, ":topic/"+reserved.PrefixTemplates) {
			if end := strings.IndexAny(after, `/"`); end >= 0 && !yield(after[:end]) {
				return
			}
		}
	}
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
