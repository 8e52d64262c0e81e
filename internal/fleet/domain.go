package fleet

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"
)

// A DomainConfiguration is a host name of an account's own at which devices connect (iot-core spec 3.11).
type DomainConfiguration struct {
	Name           string
	Domain         string // the host name, in lower case
	Managed        bool   // it is one of our endpoint names, not the customer's
	Enabled        bool
	SecurityPolicy string    // which versions of TLS; one of SecurityPolicies
	Authentication string    // how devices prove who they are: AuthDefault or AuthX509
	Protocol       string    // what they speak: ProtocolDefault, ProtocolMQTT or ProtocolHTTPS
	Changed        time.Time // the status
}

// How devices prove who they are at a domain and what they speak there: by ALPN and port, or the one thing only.
const (
	AuthDefault = "DEFAULT"
	AuthX509    = "AWS_X509"

	ProtocolDefault = "DEFAULT"
	ProtocolMQTT    = "SECURE_MQTT"
	ProtocolHTTPS   = "HTTPS"
)

// A TLSVersions is what a security policy allows.
type TLSVersions int

const (
	TLS12And13 TLSVersions = iota
	TLS12Only
	TLS13Only
)

// SecurityPolicies are the names of AWS's policies for TLS (iot-core spec 6.3). The old ones allowed TLS 1.0 once.
var SecurityPolicies = map[string]TLSVersions{
	"IoTSecurityPolicy_TLS13_1_2_2022_10": TLS12And13,
	"IoTSecurityPolicy_TLS13_1_3_2022_10": TLS13Only,
	"IoTSecurityPolicy_TLS12_1_2_2022_10": TLS12Only,
	"IoTSecurityPolicy_TLS12_1_0_2016_01": TLS12Only,
	"IoTSecurityPolicy_TLS12_1_0_2015_01": TLS12Only,
}

// DefaultSecurityPolicy is that of a domain for which none is chosen, and of all other names.
const DefaultSecurityPolicy = "IoTSecurityPolicy_TLS13_1_2_2022_10"

// DomainResource is the resource part of the ARN of a domain configuration. The five characters behind the name follow from account and
// name, so that IAM can be asked without looking.
func DomainResource(s Scope, name string) string {
	sum := sha256.Sum256([]byte(s.Account + "\x00" + s.Region + "\x00" + name))
	return "domainconfiguration/" + name + "/" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:5])
}
