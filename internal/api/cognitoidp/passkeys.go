package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) startWebAuthnRegistration(ctx context.Context, in *StartWebAuthnRegistrationInput) (*StartWebAuthnRegistrationOutput, error) {
	options, err := a.pools.NewPasskey(ctx, userpool.Holder{AccessToken: in.AccessToken})
	if err != nil {
		return nil, err
	}
	return &StartWebAuthnRegistrationOutput{CredentialCreationOptions: options}, nil
}

func (a *api) completeWebAuthnRegistration(ctx context.Context, in *CompleteWebAuthnRegistrationInput) (*CompleteWebAuthnRegistrationOutput, error) {
	return nil, a.pools.AddPasskey(ctx, userpool.Holder{AccessToken: in.AccessToken}, in.Credential)
}

func (a *api) listWebAuthnCredentials(ctx context.Context, in *ListWebAuthnCredentialsInput) (*ListWebAuthnCredentialsOutput, error) {
	keys, next, err := a.pools.Passkeys(ctx, userpool.Holder{AccessToken: in.AccessToken}, wire.Value(in.NextToken), limit(in.MaxResults))
	if err != nil {
		return nil, err
	}
	out := &ListWebAuthnCredentialsOutput{Credentials: []WebAuthnCredentialDescription{}, NextToken: text(next)}
	for _, k := range keys {
		out.Credentials = append(out.Credentials, WebAuthnCredentialDescription{CredentialId: k.ID, FriendlyCredentialName: k.Name, RelyingPartyId: k.Party,
			AuthenticatorAttachment: text(k.Attachment), AuthenticatorTransports: append([]string{}, k.Transports...), CreatedAt: k.Created})
	}
	return out, nil
}

func (a *api) deleteWebAuthnCredential(ctx context.Context, in *DeleteWebAuthnCredentialInput) (*DeleteWebAuthnCredentialOutput, error) {
	return nil, a.pools.DeletePasskey(ctx, userpool.Holder{AccessToken: in.AccessToken}, in.CredentialId)
}
