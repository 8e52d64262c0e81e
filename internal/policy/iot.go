package policy

import "strings"

// Context keys of a device's connection (iot-core spec 5.4), as a policy's author spells them; Context.Set takes them so. Those that a
// certificate provides (iot:Certificate.Subject.CommonName and so on) come from pki.Facts.
const (
	KeyClientID          = "iot:ClientId"
	KeySourceIP          = "aws:SourceIp"
	KeyDomainName        = "iot:DomainName"
	KeyConnectAttributes = "iot:ConnectAttributes" // on iot:Connect only: PersistentConnect, LastWill
	KeyLastWillTopic     = "iot:LastWillTopic"     // on iot:Connect only: ARN of the will's topic
	KeyThingName         = "iot:Connection.Thing.ThingName"
	KeyThingTypeName     = "iot:Connection.Thing.ThingTypeName"
	KeyThingIsAttached   = "iot:Connection.Thing.IsAttached" // "true" or "false"
	KeyCertificateID     = "iot:CertificateId"
	PersistentConnect    = "PersistentConnect" // value of iot:ConnectAttributes
	LastWill             = "LastWill"          // value of iot:ConnectAttributes

	attributesKey     = "iot:connection.thing.attributes"
	thingNameKey      = "iot:connection.thing.thingname"
	legacyThingName   = "iot:thing.thingname" // old examples; an alias
	certificatePrefix = "iot:certificate."
	topicFilterPart   = ":topicfilter/"
)

// ThingAttributeKey returns the key of a thing's attribute: iot:Connection.Thing.Attributes[NAME].
func ThingAttributeKey(name string) string { return "iot:Connection.Thing.Attributes[" + name + "]" }

// substitute returns what an IoT policy puts in place of a variable. Values of a certificate that could widen a pattern are
// not substituted, other special characters are escaped (iot-core spec 5.4).
//
// One rule is ours: in an Allow, a value with an MQTT wildcard is not put into a topic filter. A client that calls itself "+"
// would otherwise be let in to topicfilter/+/… by topicfilter/${iot:ClientId}/…, a hole that AWS leaves to a restriction of
// iot:Connect.
func (e *evaluation) substitute(key, v string) (string, bool) {
	if e.effect == Allow && strings.ContainsAny(v, "+#") && strings.Contains(e.request.Resource, topicFilterPart) {
		return "", false
	}
	if !strings.HasPrefix(key, certificatePrefix) {
		return v, true
	}
	if strings.ContainsAny(v, "*$+?#") {
		return "", false
	}
	return certificateEscaper.Replace(v), true
}

// "+" is among AWS's escaped characters too, but a value that holds it is never substituted.
var certificateEscaper = strings.NewReplacer(`,`, `\,`, `"`, `\"`, `\`, `\\`, `=`, `\=`, `<`, `\<`, `>`, `\>`, `;`, `\;`)
