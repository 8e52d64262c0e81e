package template

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/policy"
)

// The rules about policies try out what a device would be allowed to do, rather than read patterns: what counts is the decision.

// Names that no device of a template has. Whatever is allowed to them is allowed to anybody.
const (
	otherClient = "somebody-else"
	otherTopic  = "somebody-else/no/topic/of/this/device"
)

const (
	thingVariable  = "${iot:Connection.Thing.ThingName}"
	clientVariable = "${iot:ClientId}"
)

// policiesKnown reports whether every policy of the template could be worked out. What is not known can't be judged.
func (l *linter) policiesKnown() bool {
	return len(l.t.policies) > 0 && len(l.docs) == len(l.t.policies)
}

func (l *linter) policyMissing() {
	if len(l.t.policies) == 0 && l.t.cert != nil {
		l.at(pointer("", "Resources"), `add {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "NAME"}}, unless all rights come from thing groups`,
			"the template attaches no policy: the device is provisioned, and may not even connect")
	}
}

func (l *linter) policyConnect() {
	if !l.policiesKnown() || l.thing == nil || len(l.thing.Groups) > 0 {
		return // groups may bring policies
	}
	name := l.thing.Name
	if l.ask("iot:Connect", "client", name, name).Allowed() {
		return
	}
	at, words := l.docs[0].pointer, ""
	if r := l.ask("iot:Connect", "client", name, name); r.Decision == policy.ExplicitDeny {
		at, words = l.decided(r)
		words = ": " + words + " denies it"
	}
	l.at(at, `add {"Effect": "Allow", "Action": "iot:Connect", "Resource": "`+l.facts.Scope.IoT("client", thingVariable)+`"}`,
		"the policies don't let a device connect with its thing's name as client id, for example %s%s", name, words)
}

func (l *linter) policyActionAny() {
	for _, st := range l.statements() {
		for _, a := range st.actions {
			if st.allow && (a == "*" || strings.EqualFold(a, "iot:*")) {
				at, words := st.policy.where(st.number, "Action")
				l.at(at, "name the actions: iot:Connect, iot:Publish, iot:Subscribe, iot:Receive", "%s allows %s", words, a)
			}
		}
	}
}

// open reports an action on a resource that is allowed to a device that it should not be allowed to.
func (l *linter) open(r policy.Result, cure, cause string) {
	if r.Allowed() {
		at, words := l.decided(r, "Resource")
		l.at(at, cure, "%s %s", words, cause)
	}
}

func (l *linter) policyConnectAny() {
	l.open(l.ask("iot:Connect", "client", otherClient, otherClient), "allow "+l.facts.Scope.IoT("client", thingVariable)+" alone",
		"lets a device connect with any client id: it can disconnect every other device, and variables of the thing have no value then")
}

func (l *linter) policyPublishAny() {
	l.open(l.ask("iot:Publish", "topic", otherTopic, l.clientID()), "allow the topics of the device alone, such as "+l.facts.Scope.IoT("topic", "lamps/"+thingVariable+"/*"),
		"lets a device publish to every topic, those of other devices included")
}

func (l *linter) policySubscribeAny() {
	l.open(l.ask("iot:Subscribe", "topicfilter", "#", l.clientID()), "allow the filters of the device alone, such as "+l.facts.Scope.IoT("topicfilter", "lamps/"+thingVariable+"/*"),
		"lets a device subscribe to everything that is published")
}

// clientID is what a well-behaved device of the template calls itself.
func (l *linter) clientID() string {
	if l.thing != nil {
		return l.thing.Name
	}
	return "example-client"
}

// policyClientID looks for rights that hang on a name that the device chooses itself. Where it may connect by one name alone, that name is
// as good as the thing's.
func (l *linter) policyClientID() {
	if !l.ask("iot:Connect", "client", otherClient, otherClient).Allowed() {
		return
	}
	for _, st := range l.statements() {
		for i, r := range st.resources {
			if st.allow && strings.Contains(strings.ToLower(r), strings.ToLower(clientVariable)) && !strings.Contains(r, ":client/") {
				at, words := st.policy.where(st.number, "Resource", fmt.Sprint(i))
				l.at(at, "write "+thingVariable+" in place of "+clientVariable+", and let the device connect as that alone",
					"%s gives rights by the client id, and the device may connect with any: it can act as every other device", words)
			}
		}
	}
}

// resourceKinds are what the resources of an action begin with (iot-core spec 5.2).
var resourceKinds = map[string]string{"iot:connect": "client/", "iot:publish": "topic/", "iot:receive": "topic/", "iot:retainpublish": "topic/", "iot:subscribe": "topicfilter/"}

func (l *linter) policyResourceKind() {
	for _, st := range l.statements() {
		for _, action := range st.actions {
			want := resourceKinds[strings.ToLower(action)]
			fits := want == "" || len(st.resources) == 0 || slices.ContainsFunc(st.resources, func(r string) bool {
				parts := strings.SplitN(r, ":", 6)
				return r == "*" || len(parts) < 6 || strings.HasPrefix(parts[5], want) || strings.HasPrefix(parts[5], "*") || strings.HasPrefix(parts[5], "$")
			})
			if !fits {
				at, words := st.policy.where(st.number, "Resource")
				l.at(at, "name resources that begin with "+l.facts.Scope.IoT(strings.TrimSuffix(want, "/"), "…"), "%s allows %s on no resource of the kind %s, so it allows nothing", words, action, strings.TrimSuffix(want, "/"))
			}
		}
	}
}

func (l *linter) policyScope() {
	if l.facts.Scope.Account == "" {
		return
	}
	for _, st := range l.statements() {
		for i, r := range st.resources {
			parts := strings.SplitN(r, ":", 6)
			if len(parts) < 6 || parts[2] != "iot" {
				continue
			}
			for at, have := range []string{l.facts.Scope.Region, l.facts.Scope.Account} { // the order of the ARN
				is := parts[3+at]
				if is == "" || strings.ContainsAny(is, "*?$") || is == have {
					continue
				}
				p, words := st.policy.where(st.number, "Resource", fmt.Sprint(i))
				l.at(p, "write "+have+" in its place", "%s is about %s, which is not where the template is: it never applies", words, is)
			}
		}
	}
}

func (l *linter) policyVersion() {
	for _, p := range l.docs {
		v, _ := p.tree.get("Version")
		if v.text != "2012-10-17" && strings.Contains(string(p.tree.encode(nil)), "${iot:") {
			l.at(p.pointer, `write "Version": "2012-10-17"`, "the policy has variables, and its Version takes them as they are written")
		}
	}
}

func (l *linter) policyThingVariable() {
	if l.t.thing != nil && l.t.cert != nil {
		return
	}
	for _, p := range l.docs {
		if strings.Contains(strings.ToLower(string(p.tree.encode(nil))), "${iot:connection.thing.") {
			l.at(p.pointer, "add thing and certificate to the template, which attaches them to each other", "the policy uses variables of the thing, and the template attaches none: they have no value, and nothing is allowed")
		}
	}
}

func (l *linter) policyNoReceive() {
	if !l.policiesKnown() {
		return
	}
	var subscribe *lintedStatement
	all := l.statements()
	for i, st := range all {
		for _, a := range st.actions {
			switch {
			case !st.allow:
			case strings.EqualFold(a, "iot:Receive"), a == "*", strings.HasSuffix(a, ":*"), strings.EqualFold(a, "iot:Rec*"):
				return
			case strings.EqualFold(a, "iot:Subscribe") && subscribe == nil:
				subscribe = &all[i]
			}
		}
		if _, ok := st.node.get("NotAction"); ok {
			return
		}
	}
	if subscribe != nil {
		at, words := subscribe.policy.where(subscribe.number)
		l.at(at, "allow iot:Receive on the topics, topic/…", "%s lets the device subscribe, and nothing lets it receive: messages are dropped silently", words)
	}
}

// policyPerDevice looks for parameters in documents: each value makes a policy of its own.
func (l *linter) policyPerDevice() {
	for _, spec := range l.t.policies {
		if spec.doc == nil {
			continue
		}
		at := pointer("", "Resources", spec.logical, "Properties", "PolicyDocument")
		if i := slices.IndexFunc(l.refs, func(r reference) bool {
			return strings.HasPrefix(r.pointer, at) && !strings.HasPrefix(r.name, pseudoPrefix)
		}); i >= 0 {
			l.at(l.refs[i].pointer, "let a policy variable such as "+thingVariable+" stand for what differs",
				"the parameter %s stands in the document, so that every device gets a policy of its own", clip(l.refs[i].name))
		}
	}
}
