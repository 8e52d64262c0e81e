package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// The credential provider gives AWS credentials to devices by their certificate (iot-core spec 10).

// CredentialsPath begins the paths of the credential provider: /role-aliases/ALIAS/credentials.
const CredentialsPath = "/role-aliases/"

const thingHeader = "X-Amzn-Iot-Thingname"

// Credentials are temporary keys for a device.
type Credentials struct {
	AccessKeyID   string
	Secret, Token fleet.Secret
	Expires       time.Time
}

// A CredentialSource makes credentials of the role behind an alias for a device whose policies allow it. KindDenied and KindInvalid say
// that the role does not trust the credential provider, or is not to be had for so long.
type CredentialSource func(ctx context.Context, s fleet.Scope, alias fleet.RoleAlias, d fleet.DeviceFacts) (Credentials, error)

// CredentialHost is the name at which devices that ask for nothing by ALPN are asked for their certificate; "" for a host that is an
// address, to which clients send no name.
func CredentialHost(host string) string {
	if net.ParseIP(host) != nil {
		return ""
	}
	return "credentials." + host
}

// forCredentials reports whether a client that sent this server name wants the credential provider: "credentials." before one of the
// host names, or in the place that it has in endpoint names (PREFIX.credentials.iot.REGION…).
func (g *Gateway) forCredentials(sni string) bool {
	_, rest, _ := strings.Cut(sni, ".")
	if strings.HasPrefix(rest, "credentials.iot.") {
		return true
	}
	for _, host := range g.HostNames {
		if sni != "" && sni == CredentialHost(host) {
			return true
		}
	}
	return false
}

// CredentialProvider serves the devices of ServeDeviceHTTPS and ServeHTTPS.
func (g *Gateway) CredentialProvider(source CredentialSource) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+CredentialsPath+"{alias}/credentials", func(w http.ResponseWriter, r *http.Request) {
		id := fleet.NewUUID() // `imprint explain` takes it
		w.Header().Set("X-Amzn-Requestid", id)
		c, err := DeviceFrom(r.Context()).credentials(fleet.WithRequestID(r.Context(), id), source, r.PathValue("alias"), r.Header.Get(thingHeader))
		if err != nil {
			g.refuseCredentials(w, err)
			return
		}
		var answer struct {
			Credentials struct {
				AccessKeyID     string    `json:"accessKeyId"`
				SecretAccessKey string    `json:"secretAccessKey"`
				SessionToken    string    `json:"sessionToken"`
				Expiration      time.Time `json:"expiration"`
			} `json:"credentials"`
		}
		out := &answer.Credentials
		out.AccessKeyID, out.SecretAccessKey, out.SessionToken = c.AccessKeyID, c.Secret.Reveal(), c.Token.Reveal()
		out.Expiration = c.Expires.UTC().Truncate(time.Second) // without a fraction, which not every client reads
		w.Header().Set("Cache-Control", "no-store")
		g.answerJSON(w, http.StatusOK, answer)
	})
	return mux
}

// refuseCredentials answers in the words of AWS; the trace says more.
func (g *Gateway) refuseCredentials(w http.ResponseWriter, err error) {
	status, text := http.StatusInternalServerError, "Internal Server Error"
	switch fleet.KindOf(err) {
	case fleet.KindDenied, fleet.KindInvalid:
		status, text = http.StatusForbidden, "Access Denied"
	case fleet.KindNotFound:
		status, text = http.StatusNotFound, "Role alias does not exist"
	default:
		g.Log.Error("credentials for a device", "error", err)
	}
	g.answerJSON(w, status, map[string]string{"message": text})
}

func (g *Gateway) answerJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		g.Log.Debug("answering a device", "error", err)
	}
}

// credentials gives the device what its policies allow. A thing that it names must be tied to its certificate.
func (d *HTTPSDevice) credentials(ctx context.Context, source CredentialSource, name, thing string) (c Credentials, err error) {
	t := trace.New(d.a.who.scope, trace.Assume, d.g.Clock)
	t.Fact("certificateId", d.a.who.principal)
	t.Fact("sourceIp", d.a.address)
	t.Fact("requestId", fleet.RequestID(ctx))
	t.Fact("roleAlias", name)
	defer func() {
		if err != nil && d.told.Add(1) <= toldPerConnection {
			d.g.Recorder.Finish(t, err)
		}
	}()
	if d.a.who.claim != nil || d.a.who.renews != nil {
		return c, fleet.Denied("claims and expired certificates get no credentials").WithCode("AUTHORIZATION_FAILED")
	}
	alias, err := d.roleAlias(name)
	if err != nil {
		t.SetCure("give the device the name of a role alias that there is: aws iot list-role-aliases")
		return c, err
	}
	facts, err := d.mayAssume(t, alias, thing)
	if err != nil {
		return c, err
	}
	c, err = source(ctx, d.a.who.scope, alias, facts)
	if err != nil {
		t.SetCure("let the role %s trust the service credentials.iot.amazonaws.com for sts:AssumeRole, and its longest session be %d seconds at least", alias.RoleARN, int64(alias.Duration/time.Second))
		return c, fmt.Errorf("the role behind the alias: %w", err)
	}
	return c, nil
}

func (d *HTTPSDevice) roleAlias(name string) (alias fleet.RoleAlias, err error) {
	err = d.g.Store.View(d.g.ctx, func(tx *store.Tx) error {
		alias, err = tx.RoleAlias(d.a.who.scope, name)
		return err
	})
	return alias, err
}

// mayAssume asks the device's policies, and says what its session will know of it.
func (d *HTTPSDevice) mayAssume(t *trace.Trace, alias fleet.RoleAlias, thing string) (facts fleet.DeviceFacts, err error) {
	const action = "iot:AssumeRoleWithCertificate"
	r, err := d.rights(thing)
	if err != nil {
		return facts, err
	}
	if thing != "" && r.thing != thing {
		t.SetCure("aws iot attach-thing-principal, or let the device name a thing that its certificate is attached to, or none")
		return facts, fleet.Denied("the certificate is not attached to the thing %q that the device names", thing).WithCode("AUTHORIZATION_FAILED")
	}
	resource := d.a.who.scope.IoT("rolealias", alias.Name)
	res := policy.Evaluate(r.policies, policy.Request{Action: action, Resource: resource, Context: r.facts})
	t.Step("policy", "%s on %s: %v", action, resource, res)
	if !res.Allowed() {
		t.SetCure("%s", cure(action, resource, res))
		return facts, fleet.Denied("%s on %s is not allowed: %v", action, resource, res).WithCode("AUTHORIZATION_FAILED")
	}
	facts = fleet.DeviceFacts{Certificate: d.a.who.principal, Thing: r.thing}
	if kind := r.facts.Get(policy.KeyThingTypeName); len(kind) > 0 {
		facts.ThingType = kind[0]
	}
	return facts, nil
}
