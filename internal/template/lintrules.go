package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A lintRule is a row of the table: what is looked for. A new rule is a row here and a file testdata/lint/ID.txt with a body that
// breaks it and one that does not.
type lintRule struct {
	ID       string
	Severity Severity
	Text     string
	check    func(*linter)
	loose    bool // looks at bodies, too, that Parse refuses
}

func ruleByID(id string) *lintRule {
	return &lintRules[slices.IndexFunc(lintRules, func(r lintRule) bool { return r.ID == id })]
}

var lintRules []lintRule

func init() { // not in the declaration: checks refer to rules
	lintRules = []lintRule{
		{"syntax", SeverityError, "the body is what CreateProvisioningTemplate accepts", nil, true},

		{"certificate-missing", SeverityError, "a template has a certificate, or nothing is activated and the thing has no principal", (*linter).certificateMissing, false},
		{"certificate-inactive", SeverityWarning, "the certificate becomes ACTIVE, or the device cannot connect", (*linter).certificateInactive, false},
		{"thing-missing", SeverityWarning, "a template has a thing: clients read thingName in the answer", (*linter).thingMissing, false},
		{"attributes-limit", SeverityError, "a thing without a type has at most three attributes, one with a type fifty", (*linter).attributesLimit, false},
		{"groups-limit", SeverityError, "a thing is in at most ten groups", (*linter).groupsLimit, false},
		{"policies-limit", SeverityError, "a certificate has at most ten policies", (*linter).policiesLimit, false},
		{"override-unused", SeverityWarning, "OverrideSettings are about a property that the template sets", (*linter).overrideUnused, false},
		{"override-conflict", SeverityWarning, "OverrideSettings let a device provision again where the template means it to", (*linter).overrideConflict, false},

		{"parameter-undeclared", SeverityError, "what Ref and Fn::Sub name is declared in Parameters", (*linter).parameterUndeclared, true},
		{"parameter-pseudo", SeverityError, "of the names that begin with AWS:: only AWS::IoT::Certificate::Id has a value in a fleet template", (*linter).parameterPseudo, true},
		{"parameter-certificate", SeverityError, "the parameters of a JITP template are those that a certificate has, or have a default", (*linter).parameterCertificate, true},
		{"parameter-unused", SeverityHint, "a parameter that is declared is used", (*linter).parameterUnused, true},
		{"mapping-missing", SeverityError, "what Fn::FindInMap looks up stands in Mappings", (*linter).mappingMissing, true},
		{"policy-choice", SeverityError, "a parameter that chooses a policy chooses among AllowedPolicyNames", (*linter).policyChoice, false},
		{"group-choice", SeverityError, "a parameter that chooses a thing group chooses among AllowedThingGroups", (*linter).groupChoice, false},

		{"policy-missing", SeverityError, "a template has a policy, or the device may not even connect", (*linter).policyMissing, false},
		{"policy-connect", SeverityError, "the policies let the device connect with the name of its thing as client id", (*linter).policyConnect, false},
		{"policy-action-any", SeverityError, "a device's policy names its actions", (*linter).policyActionAny, false},
		{"policy-connect-any", SeverityWarning, "a device may not connect with any client id: it would disconnect others", (*linter).policyConnectAny, false},
		{"policy-client-id", SeverityError, "policies tell devices apart by ${iot:Connection.Thing.ThingName}, not by ${iot:ClientId}, which a device chooses", (*linter).policyClientID, false},
		{"policy-publish-any", SeverityError, "a device may not publish to every topic", (*linter).policyPublishAny, false},
		{"policy-subscribe-any", SeverityError, "a device may not read every topic", (*linter).policySubscribeAny, false},
		{"policy-resource-kind", SeverityError, "iot:Subscribe is on topicfilter/…, iot:Publish and iot:Receive on topic/…, iot:Connect on client/…", (*linter).policyResourceKind, false},
		{"policy-scope", SeverityError, "resources are of the account and region of the template", (*linter).policyScope, false},
		{"policy-version", SeverityError, "a policy with variables has Version 2012-10-17", (*linter).policyVersion, false},
		{"policy-thing-variable", SeverityError, "policies use variables of the thing only where the template attaches one", (*linter).policyThingVariable, false},
		{"policy-no-receive", SeverityWarning, "a device that may subscribe may receive, too", (*linter).policyNoReceive, false},
		{"policy-per-device", SeverityHint, "a policy document is the same for all devices", (*linter).policyPerDevice, false},

		{"guard-open", SeverityWarning, "who may provision is decided by a hook or a list", (*linter).guardOpen, false},
		{"guard-takeover", SeverityError, "without a hook, things that have a certificate are not handed to others", (*linter).guardTakeover, false},
		{"claim-wildcard", SeverityError, "bootstrap certificates may provision and nothing else", (*linter).claimWildcard, false},
		{"registry-absent", SeverityError, "what a template names exists", (*linter).registryAbsent, false},
		{"template-disabled", SeverityHint, "devices may use the template", (*linter).templateDisabled, false},
		{"reply-budget", SeverityError, "the answers fit into the devices' buffers", (*linter).replyBudget, false},
		{"reply-keys", SeverityWarning, "an answer with a key made by the service fits into the devices' buffers, too", (*linter).replyKeys, false},
	}
}

func (l *linter) certificateMissing() {
	if l.t.cert == nil && l.kind != Bulk {
		l.at(pointer("", "Resources"), `add {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}}`,
			"the template has no certificate: the device's is never activated nor attached, and is deleted within the hour")
	}
}

func (l *linter) certificateInactive() {
	if l.t.cert == nil {
		return
	}
	if c, err := l.t.evalCertificate(l.t.exampleScope(), l.t.cert); err == nil && c.Status != "ACTIVE" {
		l.at(pointer("", "Resources", l.t.cert.logical, "Properties", "Status"), "say ACTIVE, or activate each certificate with UpdateCertificate",
			"the certificate becomes %s: the device is provisioned, and cannot connect", c.Status)
	}
}

func (l *linter) thingMissing() {
	if l.t.thing == nil && l.kind != JITP {
		l.at(pointer("", "Resources"), "add a resource of type AWS::IoT::Thing with a ThingName",
			"the template has no thing, so the answer has no thingName, and several device clients take that for a failure")
	}
}

func (l *linter) attributesLimit() {
	if l.t.thing == nil || !l.t.thing.hasAttributes {
		return
	}
	limit, words := 3, "a thing without ThingTypeName"
	if l.t.thing.props["ThingTypeName"] != nil {
		limit, words = 50, "a thing"
	}
	if n := len(l.t.thing.attributes); n > limit {
		l.at(pointer("", "Resources", l.t.thing.logical, "Properties", "AttributePayload"), "give the thing a type, or leave attributes out", "%s may have %d attributes, and this one gets %d", words, limit, n)
	}
}

func (l *linter) groupsLimit() {
	if l.thing != nil && len(l.thing.Groups) > 10 {
		l.at(pointer("", "Resources", l.t.thing.logical, "Properties", "ThingGroups"), "put the groups under a common parent, and the thing into fewer", "a thing may be in ten groups, and this one gets %d", len(l.thing.Groups))
	}
}

func (l *linter) policiesLimit() {
	if n := len(l.t.policies); n > 10 {
		l.at(pointer("", "Resources"), "put statements together, or give rights to thing groups", "a certificate may have ten policies, and this one gets %d", n)
	}
}

// overrideParts are the parts of a thing that OverrideSettings are about, as Thing has them.
var overrideParts = []string{"AttributePayload", "ThingTypeName", "ThingGroups"}

// settingsOf are the override settings that a resource writes down, by their name as written.
func (l *linter) settingsOf(logical string) (at string, settings map[string]string) {
	r, _ := l.root.get("Resources")
	res, _ := r.get(logical)
	o, _ := res.get("OverrideSettings")
	settings = map[string]string{}
	for i, k := range o.keys {
		settings[k] = o.items[i].text
	}
	return pointer("", "Resources", logical, "OverrideSettings"), settings
}

func (l *linter) overrideUnused() {
	if l.t.thing == nil {
		return
	}
	at, settings := l.settingsOf(l.t.thing.logical)
	for _, written := range slices.Sorted(maps.Keys(settings)) {
		part := written
		if c, ok := canonicalPart[written]; ok {
			part = c
		}
		has := l.t.thing.props[part] != nil || part == "AttributePayload" && l.t.thing.hasAttributes
		if !has && settings[written] != string(DoNothing) && slices.Contains(overrideParts, part) {
			l.at(pointer(at, written), "add "+part+" to Properties, or take the setting out", "%s says %s about %s, which the template does not set: nothing happens", written, settings[written], part)
		}
	}
}

func (l *linter) overrideConflict() {
	if r := l.t.settings.Reprovision; l.t.thing == nil || r == "" || r == ReprovisionDeny {
		return
	}
	at, settings := l.settingsOf(l.t.thing.logical)
	for _, written := range slices.Sorted(maps.Keys(settings)) {
		if settings[written] == string(Fail) {
			l.at(pointer(at, written), "say DO_NOTHING, REPLACE or MERGE, or take Reprovision out", "%s says FAIL, and Mappings.Imprint says that devices provision again: whoever brings another value is refused with 409", written)
		}
	}
}

func (l *linter) parameterUndeclared() {
	declared, _ := l.root.get("Parameters")
	for _, r := range l.refs {
		if _, ok := declared.get(r.name); ok || strings.HasPrefix(r.name, pseudoPrefix) {
			continue
		}
		if r.sub && strings.Contains(r.name, ":") {
			l.at(r.pointer, "write ${!"+r.name+"}, which Fn::Sub leaves for the policy", "Fn::Sub takes ${%s} for a parameter; it is meant for the policy", clip(r.name))
			continue
		}
		l.at(r.pointer, fmt.Sprintf(`declare it: "Parameters": {%q: {"Type": "String"}}`, r.name), `%s is no parameter of the template: devices are refused with "Cannot resolve reference value: %[1]s"`, clip(r.name))
	}
}

func (l *linter) parameterPseudo() {
	if l.kind != Fleet {
		return
	}
	for _, r := range l.refs {
		if strings.HasPrefix(r.name, pseudoPrefix) && r.name != CertificateID {
			l.at(r.pointer, "write the value itself, or keep it in Mappings", `%s has no value in a fleet template: devices are refused with "Cannot resolve reference value: %[1]s"`, clip(r.name))
		}
	}
}

func (l *linter) parameterCertificate() {
	if l.kind != JITP {
		return
	}
	declared, _ := l.root.get("Parameters")
	for i, name := range declared.keys {
		_, has := declared.items[i].get("Default")
		switch pseudo := strings.HasPrefix(name, pseudoPrefix); {
		case pseudo && l.facts.Certificate != nil && !slices.Contains(l.facts.Certificate, name):
			l.at(pointer("", "Parameters", name), "take it out; a certificate can have "+strings.Join(l.facts.Certificate, ", "), `no certificate has %s: devices are refused with "Cannot resolve reference value: %[1]s"`, clip(name))
		case !pseudo && !has:
			l.at(pointer("", "Parameters", name), "give it a Default, or take the value from the certificate", "nobody gives %s a value: devices that their CA vouches for send no parameters", clip(name))
		}
	}
}

func (l *linter) parameterUnused() {
	declared, _ := l.root.get("Parameters")
	for _, name := range declared.keys {
		used := slices.ContainsFunc(l.refs, func(r reference) bool { return r.name == name })
		if !used && !strings.HasPrefix(name, pseudoPrefix) && !l.facts.Hook {
			l.at(pointer("", "Parameters", name), "take it out, unless a hook wants it", "the parameter %s is used nowhere", clip(name))
		}
	}
}

func (l *linter) mappingMissing() {
	mappings, _ := l.root.get("Mappings")
	l.findIn(l.root, "", mappings)
}

// findIn looks at every Fn::FindInMap below n whose arguments are written out.
func (l *linter) findIn(n node, p string, mappings node) {
	for i, item := range n.items {
		key := fmt.Sprint(i)
		if n.kind == objectNode {
			key = n.keys[i]
		}
		at := pointer(p, key)
		l.findIn(item, at, mappings)
		if n.kind != objectNode || key != "Fn::FindInMap" || len(item.items) != 3 {
			continue
		}
		place := mappings
		for _, arg := range item.items {
			if arg.kind != stringNode {
				break
			}
			next, ok := place.get(arg.text)
			if !ok {
				l.at(at, "add it to Mappings", "Mappings have no %q here: devices are refused", clip(arg.text))
				break
			}
			place = next
		}
	}
}

// chosen names the parameter that chooses the value of an expression and that no default allows.
func (l *linter) chosen(e expr) string {
	if v, _, ok, err := evalText(l.t.exampleScope(), e); ok && err == nil {
		return v.chosenBy()
	}
	return ""
}

func (l *linter) policyChoice() {
	for _, spec := range l.t.policies {
		if spec.name == nil || len(l.t.settings.AllowedPolicyNames) > 0 || l.kind == Inline {
			continue
		}
		if param := l.chosen(spec.name); param != "" {
			l.at(pointer("", "Resources", spec.logical, "Properties", "PolicyName"), `list what it may choose: "Mappings": {"Imprint": {"Settings": {"AllowedPolicyNames": "NAME NAME"}}}`,
				"the parameter %s chooses the policy, and the template lists none that it may choose: every device is refused", clip(param))
		}
	}
}

func (l *linter) groupChoice() {
	if l.t.thing == nil || len(l.t.settings.AllowedThingGroups) > 0 || l.kind == Inline {
		return
	}
	list, ok := l.t.thing.props["ThingGroups"].(list)
	if !ok {
		return
	}
	for i, e := range list {
		if param := l.chosen(e); param != "" {
			l.at(pointer("", "Resources", l.t.thing.logical, "Properties", "ThingGroups", fmt.Sprint(i)), `list what it may choose: "Mappings": {"Imprint": {"Settings": {"AllowedThingGroups": "NAME NAME"}}}`,
				"the parameter %s chooses a thing group, and the template lists none that it may choose: every device is refused", clip(param))
		}
	}
}

func (l *linter) guardOpen() {
	if l.kind != Fleet || !l.facts.Registry || l.facts.Hook || l.t.settings.AllowedSerials != nil || len(l.facts.SharedClaim) == 0 {
		return
	}
	l.at("", "give the template a pre-provisioning hook, for example a rule over a table of serial numbers (imprint table put, imprint function put --rule)",
		"certificates that devices share may use this template (policy %s), and neither a hook nor AllowedSerials decide who is let in: whoever holds one can take any name that is free, up to its limit", strings.Join(l.facts.SharedClaim, ", "))
}

func (l *linter) guardTakeover() {
	rule := l.t.settings.Reprovision
	if l.kind != Fleet || l.facts.Hook || l.t.settings.AllowedSerials != nil || rule != ReprovisionAWS && rule != ReprovisionReplace {
		return
	}
	l.at(pointer("", "Mappings", settingsMap, settingsTop, "Reprovision"), "give the template a hook that knows which devices may come again, or say require-same-key, approve or deny: a device renews with its own certificate in any case",
		"Reprovision is %s, and no hook is set: whoever holds a claim can get a certificate for any thing there is", rule)
}

func (l *linter) claimWildcard() {
	for _, name := range l.facts.WideClaim {
		l.at("", "replace it by what `imprint claim policy` prints", "the policy %s of bootstrap certificates allows more than provisioning with one's own templates", name)
	}
}

func (l *linter) registryAbsent() {
	for _, what := range l.facts.Absent {
		l.at(pointer("", "Resources"), "create it, or correct the name", "there is no %s: devices are refused", what)
	}
}

func (l *linter) templateDisabled() {
	if l.facts.Disabled {
		l.at("", "aws iot update-provisioning-template --template-name NAME --enabled", "the template is not enabled: devices are refused, and no claims are made for it")
	}
}

// replyBudget looks at the answers that a device cannot do without: to a CSR with the smallest key, and to the registration.
func (l *linter) replyBudget() {
	if l.t.settings.ReplyBudget == 0 {
		return
	}
	for _, format := range []string{"json", "cbor"} {
		if a, ok := l.smallest(format, "CreateCertificateFromCsr"); ok && a.Bytes[0] > l.t.settings.ReplyBudget {
			l.tooLarge(a)
		}
		if a, ok := l.smallest(format, "RegisterThing"); ok && a.Bytes[0] > l.t.settings.ReplyBudget {
			l.tooLarge(a)
		}
	}
}

// smallest is the smallest answer to an operation in a format.
func (l *linter) smallest(format, operation string) (least AnswerSize, ok bool) {
	for _, a := range l.facts.Answers {
		if a.Format == format && a.Operation == operation && (!ok || a.Bytes[0] < least.Bytes[0]) {
			least, ok = a, true
		}
	}
	return least, ok
}

func (l *linter) replyKeys() {
	if l.t.settings.ReplyBudget == 0 {
		return
	}
	for _, a := range l.facts.Answers {
		small, ok := l.smallest(a.Format, a.Operation)
		needed := a.Operation != "CreateKeysAndCertificate" && ok && small == a
		if !needed && a.Bytes[0] > l.t.settings.ReplyBudget {
			l.tooLarge(a)
		}
	}
}

func (l *linter) tooLarge(a AnswerSize) {
	what := a.Operation + " in " + strings.ToUpper(a.Format)
	if a.Keys != "" {
		what += " with a key of " + a.Keys
	}
	cure := "let the devices receive packets of that size"
	switch {
	case a.Operation == "RegisterThing":
		cure += ", or put less into DeviceConfiguration"
	case !a.Own:
		cure += ", or let them make their own key and use CreateCertificateFromCsr, best with P-256"
	case a.Keys != "P-256":
		cure += ", or use keys of P-256"
	}
	l.at(pointer("", "Mappings", settingsMap, settingsTop, "ReplyBudget"), cure, "the answer to %s takes a packet of %d bytes (%d with MQTT 5), and the devices receive %d", what, a.Bytes[0], a.Bytes[1], l.t.settings.ReplyBudget)
}
