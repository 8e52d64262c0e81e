package iam

import (
	"context"
	"errors"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// CredentialProvider is the service that roles trust for devices, which get credentials by a role alias (iot-core spec 10).
const CredentialProvider = "credentials.iot.amazonaws.com"

// DeviceSession makes temporary credentials of the role behind an alias, for a device that the caller has found worthy of them. The
// role must trust the credential provider; its trust policy may ask which alias it is (aws:SourceArn). The session is called by the
// certificate, as on AWS.
func (s *Service) DeviceSession(ctx context.Context, scope fleet.Scope, alias fleet.RoleAlias, d fleet.DeviceFacts) (Session, error) {
	facts := policy.Context{}
	facts.Set("aws:SourceArn", scope.IoT("rolealias", alias.Name))
	facts.Set("aws:SourceAccount", scope.Account)
	return s.IssueSession(ctx, SessionRequest{Scope: scope, RoleARN: alias.RoleARN, Name: d.Certificate, Duration: alias.Duration,
		Principal: policy.Principal{Service: CredentialProvider}, Action: "sts:AssumeRole", Context: facts, Device: &d})
}

// certified refuses a device's credentials once its certificate is good for nothing.
func certified(tx *store.Tx, c *fleet.Caller) error {
	if c.Device == nil {
		return nil
	}
	cert, err := tx.Certificate(fleet.Scope{Account: c.Scope.Account, Region: c.Device.Region}, c.Device.Certificate)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && cert.Status != fleet.Active {
		return expired()
	}
	return err
}

// setDevice sets the condition keys of a device's session.
func setDevice(f policy.Context, d *fleet.DeviceFacts) {
	if d == nil {
		return
	}
	f.Set("credentials-iot:AwsCertificateId", d.Certificate)
	if d.Thing != "" {
		f.Set("credentials-iot:ThingName", d.Thing)
	}
	if d.ThingType != "" {
		f.Set("credentials-iot:ThingTypeName", d.ThingType)
	}
}
