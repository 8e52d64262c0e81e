package lambda

import (
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/wire"
)

// IAM decides on the ARN of whatever a request means, however it is written, and another account's or region's is never taken for one's own.
func TestEveryWayToNameAFunctionMeansOneResource(t *testing.T) {
	t.Parallel()
	here := fleet.Scope{Account: "111122223333", Region: "eu-central-1"}
	ctx := fleet.WithCaller(t.Context(), &fleet.Caller{Scope: here})
	const arn = "arn:aws:lambda:eu-central-1:111122223333:function:check"
	for text, want := range map[string]struct{ resource, name, qualifier string }{
		"check":                               {arn, "check", ""},
		"111122223333:function:check":         {arn, "check", ""},
		"function:check":                      {arn, "check", ""},
		arn:                                   {arn, "check", ""},
		arn + ":$LATEST":                      {arn + ":$LATEST", "check", ""},
		"check:$LATEST":                       {arn + ":$LATEST", "check", ""},
		"check ":                              {arn + ":$LATEST", "check", "$LATEST"},
		"check:7":                             {arn + ":7", "", ""},
		"check  ":                             {arn + ":live", "", "live"},
		"444455556666:function:check":         {strings.Replace(arn, here.Account, "444455556666", 1), "", ""},
		strings.Replace(arn, "111", "999", 1): {strings.Replace(arn, "111", "999", 1), "", ""},
		strings.Replace(arn, "eu-", "us-", 1): {strings.Replace(arn, "eu-", "us-", 1), "", ""},
	} {
		text = strings.TrimRight(text, " ") // which only makes keys of the table differ
		qualifier := wire.Optional(want.qualifier)
		if got := resource(here, text, qualifier); len(got) != 1 || got[0] != want.resource {
			t.Errorf("%s: IAM decides on %v, want %s", text, got, want.resource)
		}
		name, err := named(ctx, text, qualifier)
		if name != want.name || (err == nil) != (want.name != "") || err != nil && fleet.KindOf(err) != fleet.KindNotFound {
			t.Errorf("%s %s: %q, %v; want %q", text, want.qualifier, name, err, want.name)
		}
	}
}

func TestWhatIsNotOfferedIsNamedUnlessItSaysNothing(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"":                          unusual(new(""), []string{}, &TracingConfig{Mode: new("PassThrough")}, &VpcConfig{SubnetIds: []string{}}),
		"KMSKeyArn":                 unusual(new("arn:aws:kms:x"), nil, nil, nil),
		"Layers":                    unusual(nil, []string{"l"}, nil, nil),
		"TracingConfig.Mode Active": unusual(nil, nil, &TracingConfig{Mode: new("Active")}, nil),
		"VpcConfig":                 unusual(nil, nil, nil, &VpcConfig{SecurityGroupIds: []string{"sg"}}),
	} {
		if want == "" && err != nil || want != "" && (err == nil || fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), want+" is not offered")) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
