package main

import (
	"context"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/server"
)

type rekeyCmd struct {
	dataFolder
	server.DatabaseURL
	server.MasterKey
	Finish bool `help:"Take the old key out of the key file, when no session can need it any more."`
	Now    bool `help:"Change and finish at once, with the server stopped: live sessions end. For a key that somebody else has."`
}

// Run changes the master key in the running server, or in the folder of a stopped one.
func (c *rekeyCmd) Run(ctx context.Context) error {
	r, err := server.Rekey(ctx, server.RekeyConfig{Data: c.Data, DatabaseURL: c.DatabaseURL, MasterKey: c.MasterKey,
		RekeyRequest: server.RekeyRequest{Finish: c.Finish, Now: c.Now}})
	if err != nil {
		return err
	}
	if r.Made {
		fmt.Printf("A new master key, %s, seals from now on: keep a copy of %s.\n", r.Key, r.From)
	}
	fmt.Printf("%d secrets were sealed again; all of them are under master key %s.\n", r.Resealed, r.Key)
	switch {
	case r.Yours:
		fmt.Printf("Nothing needs the older key any more: take its line out of what gives the key (%s) and start the server again.\n", r.From)
	case r.Dropped:
		fmt.Println("The old key is gone. Backups of before still need it.")
	case r.Older > 0:
		fmt.Printf("The old key still opens the sessions of before. After %s: imprint rekey --finish\n", r.Until.Local().Format(time.RFC1123))
	default:
		fmt.Println("There is no older key.")
	}
	return nil
}
