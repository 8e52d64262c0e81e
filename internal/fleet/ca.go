package fleet

import "time"

// A CA is a customer's own CA, registered in a scope: it signs device certificates that the service knows by their issuer
// (provisioning spec 7).
type CA struct {
	ID         string // certificate id
	PEM        string
	Subject    string            // hex SHA-256 of the subject's DER
	Key        string            // hex SHA-256 of the public key
	Status     CertificateStatus // Active or Inactive
	Mode       CertificateMode   // certificates that it registers get the same
	Auto       bool              // certificates that it has signed are registered at their first connection
	Config     RegistrationConfig
	NotBefore  time.Time
	NotAfter   time.Time
	Created    time.Time
	Modified   time.Time
	Version    int64 // customerVersion: +1 per change
	Generation string
}

// A RegistrationConfig says how devices are provisioned whose certificates a CA has signed: by a template of type JITP, by Name or
// with its Body in place. Zero: they are not, somebody else has to activate them.
type RegistrationConfig struct {
	Template string
	Body     string
	RoleARN  string // under which the registration is done; "" with Template: the role of that
}
