package cognitoidp

import (
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

// refuseTriggers refuses triggers that are not built. Those that are: PreSignUp, PostConfirmation, CustomMessage, PreTokenGeneration.
func refuseTriggers(c *LambdaConfigType) error {
	if c == nil {
		return nil
	}
	rest := *c
	rest.PreSignUp, rest.PostConfirmation, rest.CustomMessage, rest.PreTokenGeneration, rest.PreTokenGenerationConfig = nil, nil, nil, nil, nil
	if rest != (LambdaConfigType{}) {
		return notOffered("LambdaConfig with other triggers than PreSignUp, PostConfirmation, CustomMessage and PreTokenGeneration")
	}
	return nil
}

// triggersIn reads the triggers of a pool. PreTokenGeneration is the older name of PreTokenGenerationConfig with version V1_0; both may be
// given if they say the same.
func triggersIn(c *LambdaConfigType) (userpool.Triggers, error) {
	if c == nil {
		return userpool.Triggers{}, nil
	}
	t := userpool.Triggers{PreSignUp: wire.Value(c.PreSignUp), PostConfirmation: wire.Value(c.PostConfirmation), CustomMessage: wire.Value(c.CustomMessage),
		PreTokenGeneration: wire.Value(c.PreTokenGeneration)}
	v := c.PreTokenGenerationConfig
	switch {
	case v == nil:
		return t, nil
	case t.PreTokenGeneration != "" && t.PreTokenGeneration != v.LambdaArn:
		return t, invalid("PreTokenGeneration and PreTokenGenerationConfig name different functions: they must be the same.")
	}
	t.PreTokenGeneration, t.TokenVersion = v.LambdaArn, v.LambdaVersion
	return t, nil
}

// triggersOut shows the function of PreTokenGeneration under both names, as AWS does for the version that it had first.
func triggersOut(t userpool.Triggers) *LambdaConfigType {
	c := &LambdaConfigType{PreSignUp: text(t.PreSignUp), PostConfirmation: text(t.PostConfirmation), CustomMessage: text(t.CustomMessage)}
	if t.PreTokenGeneration != "" {
		version := "V1_0"
		if t.TokenVersion != "" {
			version = t.TokenVersion
		}
		c.PreTokenGeneration = text(t.PreTokenGeneration)
		c.PreTokenGenerationConfig = &PreTokenGenerationVersionConfigType{LambdaArn: t.PreTokenGeneration, LambdaVersion: version}
	}
	return c
}
