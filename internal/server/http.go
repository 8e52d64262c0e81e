package server

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"github.com/imprint-iot/imprint/internal/api/cognitoidentity"
	"github.com/imprint-iot/imprint/internal/api/cognitoidp"
	iamapi "github.com/imprint-iot/imprint/internal/api/iam"
	"github.com/imprint-iot/imprint/internal/api/imprint"
	"github.com/imprint-iot/imprint/internal/api/iot"
	"github.com/imprint-iot/imprint/internal/api/iotdata"
	"github.com/imprint-iot/imprint/internal/api/lambda"
	"github.com/imprint-iot/imprint/internal/api/s3"
	"github.com/imprint-iot/imprint/internal/api/sts"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/gateway"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/web/hosted"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Services are the tables behind the one origin.
func (s *Server) Services() []*wire.Service {
	return []*wire.Service{
		(&iot.API{Store: s.db, Registry: s.registry, Provision: s.provision, Roles: s.iam, Rules: s.rules, Logs: s.logs, Bulk: s.bulk}).Service(),
		s.messages(s.authorize).Service(),
		cognitoidp.Service(cognitoidp.Config{Pools: s.userpools}),
		cognitoidentity.Service(cognitoidentity.Config{Pools: s.identities, Roles: s.iam}),
		sts.Service(sts.Config{IAM: s.iam, Scope: s.site.Scope}),
		iamapi.Service(iamapi.Config{IAM: s.iam}),
		imprint.Service(imprint.Config{Store: s.db, Admins: s.iam, Hooks: s.hooks, Functions: s.functions, Logs: s.logs, Provision: s.provision, Pools: s.userpools, Home: s.site.Scope}),
		lambda.Service(s.functions),
	}
}

// messages is the data plane over HTTPS for callers whose rights authorize knows.
func (s *Server) messages(authorize func(context.Context, *fleet.Caller, wire.Access) error) *iotdata.API {
	return &iotdata.API{Broker: s.gateway.Broker(), Clients: s.gateway.Broker(), Authorize: authorize, Clock: s.clock}
}

// handler serves the HTTPS port: what is no AWS operation first, the AWS protocols behind.
func (s *Server) handler() http.Handler {
	services := s.Services()
	front := &wire.Frontend{Services: services, Observe: s.logData(s.traceSignIns(s.countRequests(services))), Authenticate: s.authenticate, Vouch: s.vouch, Authorize: s.authorize, Scope: s.site.Scope,
		CORS: wire.CORS{Origins: s.cfg.CORSOrigins}, Clock: s.clock, Log: s.log}
	wellKnown := s.userpools.WellKnown()
	pages := hosted.New(hosted.Config{Pools: s.userpools, CORS: front.CORS, Log: s.log, Observe: s.metrics.Hosted})
	uploads := cognitoidp.Uploads(s.userpools)
	webSocket := s.gateway.WebSocket(gateway.WebSocketConfig{Permissions: s.iam, Origins: s.cfg.CORSOrigins, Authenticate: func(r *http.Request) (*fleet.Caller, error) {
		return s.caller(r.Context(), r, nil, gateway.WebSocketSigningNames)
	}})
	objects := s.objectsAPI(front.CORS)
	admitted := s.strangers.admit(front, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		defer s.requests.Add(-1)
		switch path := r.URL.Path; {
		case s3.Serves(r) && r.Method != http.MethodOptions: // before all else: admit has let its body in
			objects.ServeHTTP(w, r)
		case pages.Serves(r): // preflights of its own: pages answer none
			pages.ServeHTTP(w, r)
		case r.Method == http.MethodOptions: // a preflight, wherever it goes
			front.ServeHTTP(w, r)
		case path == "/healthz":
			serveAlive(w, r)
		case path == "/readyz":
			s.serveReady(w, r, false)
		case path == "/.well-known/jwks_uri":
			w.Header().Set("Access-Control-Allow-Origin", "*")
			userpool.ServeCacheable(w, r, s.identities.KeySet(), 3600)
		case userpool.IsWellKnown(path):
			wellKnown.ServeHTTP(w, r)
		case path == amplifyEndpointsPath && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			serveAmplifyEndpoints(w, r)
		case cognitoidp.IsUpload(r):
			uploads.ServeHTTP(w, r)
		case path == "/mqtt":
			webSocket.ServeHTTP(w, r)
		default:
			front.ServeHTTP(w, r)
		}
	}))
	devices := s.deviceHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gateway.DeviceFrom(r.Context()) != nil { // no stranger, but of what requests take nobody has more than there is
			body := s.strangers.bodies.Body(r.Body)
			defer body.Release()
			r.Body = body
			devices.ServeHTTP(w, r)
			return
		}
		admitted.ServeHTTP(w, r)
	})
}

// deviceHandler serves devices that come with their certificate in place of a signature: the data plane and the credential provider.
func (s *Server) deviceHandler() http.Handler {
	authorize := func(ctx context.Context, _ *fleet.Caller, a wire.Access) error {
		return gateway.DeviceFrom(ctx).Authorize(ctx, a.Action, a.Resources)
	}
	services := []*wire.Service{s.messages(authorize).DeviceService()}
	credentials := s.gateway.CredentialProvider(s.deviceCredentials)
	messages := &wire.Frontend{Services: services, Observe: s.logData(s.countRequests(services)), Authorize: authorize, MaxBody: 2 * mqtt.MaxPayload, Clock: s.clock, Log: s.log,
		Authenticate: func(ctx context.Context, _ *http.Request, _ []byte, _ *wire.Service) (*fleet.Caller, error) {
			return gateway.DeviceFrom(ctx).Caller(), nil
		}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, gateway.CredentialsPath) {
			credentials.ServeHTTP(w, r)
			return
		}
		messages.ServeHTTP(w, r)
	})
}

// deviceCredentials implements gateway.CredentialSource.
func (s *Server) deviceCredentials(ctx context.Context, scope fleet.Scope, alias fleet.RoleAlias, d fleet.DeviceFacts) (gateway.Credentials, error) {
	made, err := s.iam.DeviceSession(ctx, scope, alias, d)
	return gateway.Credentials(made.Credentials), err
}

// authenticate finds out who signed a request.
func (s *Server) authenticate(ctx context.Context, r *http.Request, body []byte, svc *wire.Service) (*fleet.Caller, error) {
	return s.caller(ctx, r, body, svc.SigningNames)
}

// vouch says whether a request names a key that there is. The signature is over the body, and can't be verified before that is read.
func (s *Server) vouch(ctx context.Context, r *http.Request) error {
	signature, err := sigv4.Parse(r)
	if err == nil {
		_, err = s.iam.Lookup(ctx, signature.Region, signature.AccessKeyID, signature.Token)
	}
	return err
}

// caller verifies the signature of a request for a service that goes by any of the names.
func (s *Server) caller(ctx context.Context, r *http.Request, body []byte, names []string) (*fleet.Caller, error) {
	return s.identify(ctx, r, func(lookup sigv4.Lookup) error {
		_, err := s.verifier.Verify(r, body, names, lookup)
		return err
	})
}

// identify finds the caller behind the key that verify looks up, if verify finds the signature right. The caller is in the region that the
// request was signed for.
func (s *Server) identify(ctx context.Context, r *http.Request, verify func(sigv4.Lookup) error) (*fleet.Caller, error) {
	var caller fleet.Caller
	err := verify(func(sig *sigv4.Signature) (fleet.Secret, error) {
		region := sig.Region
		if !s.site.serves(region) { // of a global service
			region = s.site.Scope.Region
		}
		c, err := s.iam.Lookup(ctx, region, sig.AccessKeyID, sig.Token)
		if err != nil {
			return "", err
		}
		caller = *c.Caller
		return c.Secret, nil
	})
	if err != nil {
		scope := s.site.Scope
		if caller.ARN != "" { // the key is known
			scope = caller.Scope
		}
		s.unproven(ctx, r, scope, err)
		return nil, err
	}
	s.strangers.proven(r.Context())
	caller.SourceIP, _, _ = net.SplitHostPort(r.RemoteAddr)
	caller.UserAgent = r.UserAgent()
	return &caller, nil
}

// authorize asks IAM.
func (s *Server) authorize(ctx context.Context, caller *fleet.Caller, a wire.Access) error {
	facts := policy.Context{}
	for k, v := range a.Conditions {
		facts.Set(k, v...)
	}
	ask := s.iam.Authorize
	if a.AnyOf {
		ask = s.iam.AuthorizeAny
	}
	err := ask(ctx, caller, a.Action, a.Resources, facts)
	s.denied(ctx, caller, a, err)
	return err
}

// identityKey is the key that signs the tokens of identity pools.
func (s *Server) identityKey(ctx context.Context) (*rsa.PrivateKey, error) {
	const name = "identity-token"
	signer, err := s.signing.Signer(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		signer, err = s.signing.Create(ctx, name, pki.RSA2048)
	}
	if err != nil {
		return nil, fmt.Errorf("the key of identity tokens: %w", err)
	}
	key, ok := signer.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key of identity tokens is a %T, not RSA", signer)
	}
	return key, nil
}

// webIdentities verifies the tokens that STS trades for credentials: those of our identity pools and user pools.
type webIdentities struct{ *Server }

// VerifyWebIdentity implements iam.TokenVerifier.
func (s webIdentities) VerifyWebIdentity(ctx context.Context, token string) (id iam.WebIdentity, known bool, err error) {
	t, err := jwt.Parse(token)
	if err != nil { // another issuer's, with another algorithm, or nothing at all
		return id, false, nil
	}
	id.Issuer = strings.TrimPrefix(t.Claims.String("iss"), "https://")
	if id.Issuer == fleet.IdentityPools {
		claims, err := s.identities.VerifyToken(ctx, token)
		if err != nil {
			return id, true, webTokenError(err)
		}
		id.StillHolds = func(ctx context.Context) error { return webTokenError(s.identities.StillHolds(ctx, claims)) }
		id.Audience, id.Subject, id.AMR = claims.String("aud"), claims.String("sub"), claims.Strings("amr")
		if part := strings.SplitN(claims.String("imprint:user"), "/", 3); len(part) == 3 {
			id.PoolID, id.UserSub, id.Username = part[0], part[1], part[2]
		}
		id.OIDC = claims.String("imprint:oidc")
		return id, true, nil
	}
	pool, ours := strings.CutPrefix("https://"+id.Issuer, s.site.baseURL()+"/")
	if !ours {
		return id, false, nil
	}
	var scope fleet.Scope
	err = s.db.View(ctx, func(tx *store.Tx) error {
		p, err := tx.FindUserPool(pool)
		scope = p.Scope
		return err
	})
	if err != nil {
		return id, true, badToken("No OpenIDConnect provider found in your account for https://" + id.Issuer)
	}
	claims, err := s.userpools.VerifyIDToken(ctx, scope, pool, token)
	if err != nil {
		return id, true, webTokenError(err)
	}
	id.StillHolds = func(ctx context.Context) error { return webTokenError(s.userpools.StillHold(ctx, scope, pool, claims)) }
	id.Audience, id.Subject = claims.String("aud"), claims.String("sub")
	id.PoolID, id.UserSub, id.Username, id.Claims = pool, id.Subject, claims.String("cognito:username"), claims
	return id, true, nil
}

func badToken(text string) error {
	return fleet.Invalid("", "", "%s", text).WithCode("InvalidIdentityToken")
}

func webTokenError(err error) error {
	var e *fleet.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return badToken(err.Error())
	case e.Kind == fleet.KindInternal || e.Kind == fleet.KindUnavailable:
		return err
	case strings.Contains(strings.ToLower(e.Msg), "expired"):
		return fleet.Invalid("", "", "%s", e.Msg).WithCode("ExpiredTokenException")
	}
	return badToken(e.Msg)
}
