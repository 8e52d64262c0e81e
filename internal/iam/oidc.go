package iam

import (
	"context"
	"errors"
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

// ChangeProvider alters an OpenID Connect provider. If it then trusts less than before, sessions and claims of its people end: whoever
// is still trusted signs in again.
func (s *Service) ChangeProvider(ctx context.Context, scope fleet.Scope, arn string, change func(*Entity)) error {
	name, err := providerName(scope, arn)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, store.IAMOIDC, name)
		if err != nil {
			return err
		}
		before := e
		before.ClientIDs, before.Thumbprints = slices.Clone(e.ClientIDs), slices.Clone(e.Thumbprints)
		change(&e)
		slices.Sort(e.ClientIDs)
		e.ClientIDs = slices.Compact(e.ClientIDs)
		if err := checkProvider(e.ClientIDs, e.Thumbprints); err != nil {
			return err
		}
		if lost(before.ClientIDs, e.ClientIDs) || lost(before.Thumbprints, e.Thumbprints) {
			if err := tx.CutOff(scope.Global(), "oidc:"+e.Name, tx.Now()); err != nil {
				return err
			}
		}
		return update(tx, scope, e)
	})
}

func lost(before, after []string) bool {
	return slices.ContainsFunc(before, func(b string) bool { return !slices.Contains(after, b) })
}

// DeleteProvider removes an OpenID Connect provider and ends the sessions and claims of its people; one that is not there is no error.
func (s *Service) DeleteProvider(ctx context.Context, scope fleet.Scope, arn string) error {
	name, err := providerName(scope, arn)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := tx.IAMEntity(scope, store.IAMOIDC, name)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := tx.CutOff(scope.Global(), "oidc:"+e.Name, tx.Now()); err != nil {
			return err
		}
		return tx.DeleteIAMEntity(scope, store.IAMOIDC, e.Name)
	})
}
