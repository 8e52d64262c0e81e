package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

type userCmd struct {
	Import     userImportCmd     `cmd:"" help:"Make users of the lines of a CSV file, as Cognito's import jobs do."`
	ImportLog  userImportLogCmd  `cmd:"" help:"Print what became of the lines of such a file."`
	ResetToken userResetTokenCmd `cmd:"" help:"Take the software token (TOTP) away from a user who has lost it, so that they can set up another."`
}

type userResetTokenCmd struct {
	place
	Pool string `arg:"" help:"Id of the user pool."`
	User string `arg:"" help:"User name, id or alias."`
}

func (c *userResetTokenCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/user-pools/"+url.PathEscape(c.Pool)+"/reset-software-token", map[string]string{"username": c.User}, &struct{}{}); err != nil {
		return err
	}
	fmt.Printf("The software token of %s is gone. Where one is required, the next sign-in with the password sets up another.\n"+
		"If somebody else may have the old one, end the sessions too:\n  imprint aws cognito-idp admin-user-global-sign-out --user-pool-id %s --username %[1]s\n", c.User, c.Pool)
	return nil
}
