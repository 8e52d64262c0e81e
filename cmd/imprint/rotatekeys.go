package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
)

type rotateKeysCmd struct {
	place
	asJSON
	Pool string `arg:"" name:"pool" help:"Id of the user pool."`
	Now  bool   `help:"Take the old keys away at once, for keys that somebody else has: every Id and access token of the pool ends. Sessions live on; apps fetch new tokens with their refresh tokens."`
}

// Run rotates by the API of a running server.
func (c *rotateKeysCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		KeyIds       []string `json:"keyIds"`
		SignsFrom    float64  `json:"signsFrom"`
		OldOnesUntil float64  `json:"oldOnesUntil"`
	}
	if err := cl.REST(ctx, "imprint", "POST", "/imprint/user-pools/"+url.PathEscape(c.Pool)+"/rotate-keys", map[string]any{"atOnce": c.Now}, &out); err != nil {
		return err
	}
	if done, err := c.print(out); done {
		return err
	}
	at := func(seconds float64) string { return time.Unix(int64(seconds), 0).Local().Format(time.RFC1123) }
	fmt.Printf("New keys: %s\n", strings.Join(out.KeyIds, ", "))
	if c.Now {
		fmt.Println("They sign from now on. The old ones are gone, and so are the tokens that they signed.")
		return nil
	}
	fmt.Printf("They are published now and sign from %s on, when everybody who keeps the key set has them.\nThe old ones stay published until %s.\n", at(out.SignsFrom), at(out.OldOnesUntil))
	return nil
}
