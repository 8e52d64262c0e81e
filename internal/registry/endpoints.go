package registry

import (
	"context"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// endpointNames are the parts between prefix and region of an endpoint's name (iot-core spec 6.2). iot:Data is served by the same
// host as iot:Data-ATS.
var endpointNames = map[string]string{
	"":                       "-ats.iot.",
	"iot:Data":               "-ats.iot.",
	"iot:Data-ATS":           "-ats.iot.",
	"iot:CredentialProvider": ".credentials.iot.",
	"iot:Jobs":               ".jobs.iot.",
}

// Endpoint returns the host name, without scheme and port, that serves an endpoint type for a scope. It never changes.
func (r *Service) Endpoint(ctx context.Context, s fleet.Scope, endpointType string) (string, error) {
	middle, ok := endpointNames[endpointType]
	if !ok {
		return "", exact(fleet.KindInvalid, "Endpoint type %s not recognized.", endpointType)
	}
	prefix, err := r.EndpointPrefix(ctx, s)
	if err != nil {
		return "", err
	}
	switch {
	case r.BaseDomain == "" && endpointType == "iot:CredentialProvider":
		return r.CredentialHost, nil
	case r.BaseDomain == "":
		return r.Host, nil
	}
	return prefix + middle + s.Region + "." + r.BaseDomain, nil
}

// prefixLength is that of AWS's endpoint prefixes (iot-core spec 2.3).
const prefixLength = 14

// EndpointPrefix returns the prefix of a scope's endpoint names. The first call makes it.
func (r *Service) EndpointPrefix(ctx context.Context, s fleet.Scope) (prefix string, err error) {
	err = r.Store.View(ctx, func(tx *store.Tx) error {
		prefix, err = tx.EndpointPrefix(s)
		return err
	})
	if prefix != "" || err != nil {
		return prefix, err
	}
	fresh := fleet.RandomString(prefixLength, fleet.AlphaLowerDigit)
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		prefix, err = tx.CreateEndpointPrefix(s, fresh)
		return err
	})
	return prefix, err
}

// EventTypes are the registry events that a scope can publish (iot-core spec 7.4).
var EventTypes = []string{"THING", "THING_GROUP", "THING_TYPE", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY", "THING_TYPE_ASSOCIATION",
	"JOB", "JOB_EXECUTION", "POLICY", "CERTIFICATE", "CA_CERTIFICATE"}

// UpdateEvents turns event types on or off; those that are not named stay as they are.
func UpdateEvents(tx *store.Tx, s fleet.Scope, enabled map[string]bool) error {
	for name := range enabled {
		if !slices.Contains(EventTypes, name) {
			return fleet.Invalid("event type", name, "is not known; the types are %q", EventTypes)
		}
	}
	e, err := tx.EventConfigurations(s)
	if err != nil {
		return err
	}
	on := []string{}
	for _, name := range EventTypes {
		v, said := enabled[name]
		if v || !said && slices.Contains(e.Enabled, name) {
			on = append(on, name)
		}
	}
	e.Enabled, e.Modified = on, tx.Now()
	if e.Created.IsZero() {
		e.Created = e.Modified
	}
	return tx.PutEventConfigurations(s, e)
}
