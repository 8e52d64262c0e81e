package main

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// poolKeys is what the server's pool of RSA keys holds by default.
const poolKeys = 32

func (w *world) provider() string {
	return "cognito-idp." + w.server.env.Get("AWS_REGION") + ".amazonaws.com/" + w.poolID
}

// identities lets the user become an installer: an identity pool, and a role that may ask for claims.
func (w *world) identities(ctx context.Context) error {
	const role = "arn:aws:iam::000000000000:role/installer"
	identity := func(operation string, in object, out any) error {
		return w.admin.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService."+operation, in, out)
	}
	var pool struct{ IdentityPoolId string }
	if err := identity("CreateIdentityPool", object{"IdentityPoolName": "staff", "AllowUnauthenticatedIdentities": false,
		"CognitoIdentityProviders": []object{{"ProviderName": w.provider(), "ClientId": w.appID}}}, &pool); err != nil {
		return err
	}
	w.identityPoolID = pool.IdentityPoolId
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Federated": "cognito-identity.amazonaws.com"},
		"Action": "sts:AssumeRoleWithWebIdentity", "Condition": object{"StringEquals": object{"cognito-identity.amazonaws.com:aud": pool.IdentityPoolId}}}}
	allow := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:CreateProvisioningClaim", "Resource": "*"}}
	const iam = "2010-05-08"
	if err := w.admin.Query(ctx, "iam", iam, "CreateRole", map[string]string{"RoleName": "installer", "AssumeRolePolicyDocument": document(trust)}, nil); err != nil {
		return err
	}
	if err := w.admin.Query(ctx, "iam", iam, "PutRolePolicy", map[string]string{"RoleName": "installer", "PolicyName": "claims",
		"PolicyDocument": document(allow)}, nil); err != nil {
		return err
	}
	return identity("SetIdentityPoolRoles", object{"IdentityPoolId": pool.IdentityPoolId, "Roles": object{"authenticated": role}}, nil)
}

// trusted is the whole way: sign-in, credentials of the installer's role, a claim, and the device's flow with it.
func (w *world) trusted(ctx context.Context, template string, c candidate) error {
	tokens, err := w.anon.SignIn(ctx, w.poolID, w.appID, user, password)
	if err != nil {
		return err
	}
	logins := object{w.provider(): tokens.ID.Reveal()}
	var id struct{ IdentityId string }
	if err := w.anon.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService.GetId", object{"IdentityPoolId": w.identityPoolID, "Logins": logins}, &id); err != nil {
		return err
	}
	var out struct {
		Credentials struct{ AccessKeyId, SecretKey, SessionToken string }
	}
	if err := w.anon.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService.GetCredentialsForIdentity", object{"IdentityId": id.IdentityId, "Logins": logins}, &out); err != nil {
		return err
	}
	k := out.Credentials
	claim, err := w.claimAs(ctx, template, w.anon.As(client.Credentials{AccessKeyID: k.AccessKeyId, Secret: fleet.Secret(k.SecretKey), Token: fleet.Secret(k.SessionToken)}))
	if err != nil {
		return err
	}
	return w.flowOf(template, claim, c)
}

// measureTrusted runs as many trusted-user flows as a full pool has keys for, and counts what filling it again takes; or begins
// with an empty one. The template decides on the claims' keys.
func measureTrusted(template string, full bool) func(context.Context, options, *world) (*figures, error) {
	return func(ctx context.Context, o options, w *world) (*figures, error) {
		const n, workers = 24, 4
		w.server.settle()
		if !full {
			if err := w.drain(ctx); err != nil {
				return nil, err
			}
		}
		begin, before, own := time.Now(), w.server.cpu(), ownCPU()
		each, err := times(n, workers, func(int) error {
			c, err := newCandidate()
			if err != nil {
				return err
			}
			return w.trusted(ctx, template, c)
		})
		if err != nil {
			return nil, err
		}
		f := &figures{Count: n, PerSecond: n / time.Since(begin).Seconds(), ClientMicros: micros(ownCPU()-own) / n}
		if full {
			w.server.settle()
		}
		f.ServerMicros, f.RSSKiB = micros(w.server.cpu()-before)/n, w.server.rss()
		slices.Sort(each)
		f.P50Millis, f.P99Millis = micros(each[n/2])/1000, micros(each[n-1])/1000
		return f, nil
	}
}

// drain empties the pool of RSA keys.
func (w *world) drain(ctx context.Context) error {
	_, err := times(poolKeys+4, 8, func(int) error { _, err := w.claim(ctx); return err })
	return err
}

// times runs a task n times.
func times(n, workers int, do task) ([]time.Duration, error) {
	left := make(chan int, n)
	for i := range n {
		left <- i
	}
	close(left)
	took := make([][]time.Duration, workers)
	errs := make(chan error, workers)
	for worker := range workers {
		go func() {
			for range left {
				begin := time.Now()
				if err := do(worker); err != nil {
					errs <- err
					return
				}
				took[worker] = append(took[worker], time.Since(begin))
			}
			errs <- nil
		}()
	}
	var first error
	for range workers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return slices.Concat(took...), first
}

// anyDevice is an identity that may connect under any client id.
func (w *world) anyDevice(ctx context.Context) (device, error) {
	c, err := newCandidate()
	if err != nil {
		return device{}, err
	}
	var made struct{ CertificateArn, CertificatePem string }
	if err := w.admin.REST(ctx, "iot", http.MethodPost, "/certificates?setAsActive=true", object{"certificateSigningRequest": c.csr}, &made); err != nil {
		return device{}, err
	}
	allow := object{"Version": "2012-10-17", "Statement": []object{{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}}
	if err := w.admin.REST(ctx, "iot", http.MethodPost, "/policies/any", object{"policyDocument": document(allow)}, nil); err != nil && client.Code(err) != "ResourceAlreadyExistsException" {
		return device{}, err
	}
	if err := w.admin.REST(ctx, "iot", http.MethodPut, "/target-policies/any", object{"target": made.CertificateArn}, nil); err != nil {
		return device{}, err
	}
	return deviceOf("", made.CertificatePem, c.key)
}
