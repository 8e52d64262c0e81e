package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

type claimCmd struct {
	Policy  claimPolicyCmd  `cmd:"" help:"Print the least policy for the certificate that devices share, or for the app that hands out claims."`
	Report  claimReportCmd  `cmd:"" help:"Print what descended from a claim: certificates, things, groups, policies, and what it was refused."`
	Limits  claimLimitsCmd  `cmd:"" help:"Print or change what the certificate that devices share may do: how many devices, from where, how fast, how long."`
	Roll    claimRollCmd    `cmd:"" help:"Make a successor of the certificate that devices share; the old one stays good for some time."`
	Contain claimContainCmd `cmd:"" help:"Contain a stolen claim: it and the certificates that came of it lose their power, the names that were taken become free."`
}

type claimPolicyCmd struct {
	place
	Templates []string `arg:"" name:"template" help:"Templates that its holders provision with."`

	For      string   `help:"Whom the policy is for: claim is the IoT policy of a bootstrap certificate, installer the IAM policy of whoever makes temporary claims." enum:"claim,installer" default:"claim"`
	Format   []string `help:"Formats that the devices use: json, cbor or both." enum:"json,cbor" default:"json,cbor"`
	Keys     []string `help:"Who makes the keys: service (CreateKeysAndCertificate), device (CreateCertificateFromCsr) or both." enum:"service,device" default:"service,device"`
	ClientID string   `name:"client-id" help:"What the client ids of unprovisioned devices begin with. Without it they may use any, also that of a device in the field, which it disconnects." placeholder:"PREFIX"`
}

func (c *claimPolicyCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]any{"templateNames": c.Templates, "for": strings.ToUpper(c.For)}
	if c.For == "claim" {
		in["formats"], in["keys"], in["clientIdPrefix"] = c.Format, upper(c.Keys), c.ClientID
	}
	var out struct{ PolicyDocument string }
	if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/claim-policy", in, &out); err != nil {
		return err
	}
	fmt.Println(out.PolicyDocument)
	return nil
}

func upper(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToUpper(s)
	}
	return out
}
