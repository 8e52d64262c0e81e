package iam

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// CreateProvider adds an OpenID Connect provider, by its issuer's URL. Unlike AWS we accept a port: issuers that people run
// themselves have one.
func (s *Service) CreateProvider(ctx context.Context, scope fleet.Scope, issuer string, clientIDs, thumbprints []string, tags map[string]string) (Entity, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Entity{}, invalidInput("The URL %q must be https without query: https://issuer.example/path", issuer)
	}
	if err := checkProvider(clientIDs, thumbprints); err != nil {
		return Entity{}, err
	}
	e := Entity{Kind: store.IAMOIDC, Name: strings.TrimSuffix(u.Host+u.Path, "/"),
		Body: Body{URL: u.Host + u.Path, ClientIDs: clientIDs, Thumbprints: thumbprints, Tags: tags}}
	return s.create(ctx, scope, e)
}

func checkProvider(clientIDs, thumbprints []string) error {
	if len(clientIDs) > maxOIDCClients {
		return limitExceeded("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: %d", maxOIDCClients)
	}
	if len(thumbprints) > maxThumbprints {
		return invalidInput("Thumbprint list must contain fewer than %d entries.", maxThumbprints+1)
	}
	return nil
}

// providerName takes the provider's name out of its ARN.
func providerName(scope fleet.Scope, arn string) (string, error) {
	name, ok := strings.CutPrefix(arn, scope.IAM("oidc-provider/"))
	if !ok {
		return "", noSuch("OpenIDConnect Provider not found for arn %s", arn)
	}
	return name, nil
}

// Provider returns an OpenID Connect provider by its ARN.
func (s *Service) Provider(ctx context.Context, scope fleet.Scope, arn string) (Entity, error) {
	name, err := providerName(scope, arn)
	if err != nil {
		return Entity{}, err
	}
	return s.Entity(ctx, scope, store.IAMOIDC, name)
}

// ChangeProvider alters an OpenID Connect provider.
func (s *Service) ChangeProvider(ctx context.Context, scope fleet.Scope, arn string, change func(*Entity)) error {
	name, err := providerName(scope, arn)
	if err != nil {
		return err
	}
	_, err = s.Change(ctx, scope, store.IAMOIDC, name, func(e *Entity) error {
		change(e)
		slices.Sort(e.ClientIDs)
		e.ClientIDs = slices.Compact(e.ClientIDs)
		return checkProvider(e.ClientIDs, e.Thumbprints)
	})
	return err
}

// DeleteProvider removes an OpenID Connect provider; one that is not there is no error.
func (s *Service) DeleteProvider(ctx context.Context, scope fleet.Scope, arn string) error {
	name, err := providerName(scope, arn)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error { return tx.DeleteIAMEntity(scope, store.IAMOIDC, name) })
}
