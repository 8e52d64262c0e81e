package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/wire"
)

// RotateUserPoolKeysInput gives a user pool new signing keys. With AtOnce those of before are gone, and their tokens with them.
type RotateUserPoolKeysInput struct {
	UserPoolId string `wire:"userPoolId,required,uri" shape:"UserPoolId"`
	AtOnce     *bool  `wire:"atOnce"`
}

// RotateUserPoolKeysOutput says which keys are new, when they begin to sign, and until when the old ones are published.
type RotateUserPoolKeysOutput struct {
	KeyIds       []string  `wire:"keyIds,required"`
	SignsFrom    time.Time `wire:"signsFrom,required"`
	OldOnesUntil time.Time `wire:"oldOnesUntil,required"`
}

func (a *api) rotateUserPoolKeys(ctx context.Context, in *RotateUserPoolKeysInput) (*RotateUserPoolKeysOutput, error) {
	r, err := a.Pools.RotateKeys(ctx, scopeOf(ctx), in.UserPoolId, wire.Value(in.AtOnce))
	if err != nil {
		return nil, err
	}
	return &RotateUserPoolKeysOutput{KeyIds: r.KeyIDs, SignsFrom: r.Signs, OldOnesUntil: r.Gone}, nil
}
