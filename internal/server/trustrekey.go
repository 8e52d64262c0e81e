package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/hook"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// oldKeyLife is how long an older master key goes on opening: as long as the longest session token lives (36 hours, from
// GetSessionToken) that was sealed under it. Everything else that travels sealed lives an hour at most.
const oldKeyLife = 36 * time.Hour

// RekeyConfig says on which data folder the master key is changed and where it comes from, as Config does.
type RekeyConfig struct {
	Data string
	MasterKey
	DatabaseURL
	RekeyRequest
}

// A RekeyRequest is what to do. Neither: make a new key and seal everything again under it, or go on with that.
type RekeyRequest struct {
	Finish bool // take the older keys out of the key file
	Now    bool // make, seal and finish at once, with the server stopped: live sessions end
}

// A RekeyReport says what a change of the master key has done.
type RekeyReport struct {
	Key      string    // id of the key that seals
	From     string    // where it comes from
	Made     bool      // it is new
	Resealed int       // secrets that were sealed again
	Older    int       // keys that still open
	Until    time.Time // from when on these may be dropped
	Dropped  bool      // the older keys are gone
	Yours    bool      // the older keys are not needed any more, but only the operator can take them out of From
}

// Rekey changes the master key of a data folder, in the server that runs on it or, if there is none, here. Whatever ends it
// in the middle, everything opens, and the next call goes on.
func Rekey(ctx context.Context, c RekeyConfig) (RekeyReport, error) {
	r, err := askServer[RekeyReport](ctx, c.Data, "master-key", c.RekeyRequest)
	if !errors.Is(err, errNoServer) {
		return r, err
	}
	unlock, err := lockExisting(c.Data)
	if err != nil {
		return r, err
	}
	r, err = rekeyStopped(ctx, c)
	return r, errors.Join(err, unlock())
}

func rekeyStopped(ctx context.Context, c RekeyConfig) (r RekeyReport, err error) {
	k, err := openRekeyer(ctx, c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, k.db.Close()) }()
	return k.run(ctx, c.RekeyRequest)
}

func openRekeyer(ctx context.Context, c RekeyConfig) (*rekeyer, error) {
	master, err := pki.LoadMasterKey(ctx, pki.MasterKeyConfig{Dir: c.Data, File: c.MasterKeyFile, Command: c.MasterKeyCmd,
		CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY")})
	if err != nil {
		return nil, err
	}
	keys, err := pki.NewFileKeys(filepath.Join(c.Data, pki.KeysDir), master.Sealer())
	if err != nil {
		return nil, err
	}
	db, err := c.DatabaseURL.open(ctx, c.Data, store.Config{})
	if err != nil {
		return nil, err
	}
	return &rekeyer{master: master, keys: keys, db: db}, nil
}

// serveRekey is the operation of the running server.
func (s *Server) serveRekey(ctx context.Context, q RekeyRequest) (RekeyReport, error) {
	if q.Now {
		return RekeyReport{}, errors.New("--now ends sessions in the middle of what they do: stop the server first, or leave it out; then the old key opens them until they end")
	}
	k := &rekeyer{master: s.masterKey, keys: s.signing, db: s.db, clock: s.clock}
	report, err := k.run(ctx, q)
	if err != nil {
		s.log.Error("changing the master key", "error", err)
		return report, err
	}
	s.log.Info("master key", "key", report.Key, "new", report.Made, "resealed", report.Resealed, "older", report.Older)
	return report, nil
}

// A rekeyer changes the master key of one installation.
type rekeyer struct {
	master *pki.MasterKey
	keys   *pki.FileKeys
	db     *store.DB
	clock  fleet.Clock

	before func(step string) error // for tests: called before each durable step, an error is a cut
}

func (k *rekeyer) run(ctx context.Context, q RekeyRequest) (r RekeyReport, err error) {
	r.From = k.master.From
	if k.master.Older() == 0 && !q.Finish {
		if err := k.step("new key"); err != nil {
			return r, err
		}
		if err := k.master.AddKey(); err != nil {
			return r, err
		}
		r.Made = true
	}
	r.Key, r.Older = k.master.ID(), k.master.Older()
	since, err := k.since(ctx)
	if err != nil {
		return r, err
	}
	if r.Older > 0 {
		r.Until = since.Add(oldKeyLife)
	}
	if r.Resealed, err = k.reseal(ctx); err != nil {
		return r, fmt.Errorf("%w (nothing is lost: both keys open; run imprint rekey again to go on)", err)
	}
	if r.Older == 0 || !q.Finish && !q.Now {
		return r, nil
	}
	if !q.Now && k.clock.Now().Before(r.Until) {
		return r, fmt.Errorf("sessions sealed under the old master key may live until %s: finish after that, or stop the server and use --now, which ends them", r.Until.UTC().Format(time.RFC3339))
	}
	return k.drop(r)
}

func (k *rekeyer) drop(r RekeyReport) (RekeyReport, error) {
	if !k.master.InFile() {
		r.Yours = true
		return r, nil
	}
	if err := k.step("dropping the old key"); err != nil {
		return r, err
	}
	if err := k.master.DropOlder(); err != nil {
		return r, err
	}
	r.Older, r.Dropped = 0, true
	return r, nil
}

func (k *rekeyer) step(what string) error {
	if k.before == nil {
		return nil
	}
	return k.before(what)
}

// since returns from when on the current key seals. It is noted at the first call, which is later than the truth at worst.
func (k *rekeyer) since(ctx context.Context) (since time.Time, err error) {
	const setting = "master-key-since" // "KEY MILLISECONDS"
	var noted string
	if err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		noted, err = tx.Setting(setting)
		return err
	}); err != nil {
		return since, err
	}
	if id, at, ok := strings.Cut(noted, " "); ok && id == k.master.ID() {
		ms, err := strconv.ParseInt(at, 10, 64)
		return time.UnixMilli(ms), err
	}
	if err := k.step("noting the time"); err != nil {
		return since, err
	}
	since = k.clock.Now().Truncate(time.Millisecond)
	return since, k.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.PutSetting(setting, k.master.ID()+" "+strconv.FormatInt(since.UnixMilli(), 10))
	})
}

// reseal brings everything under the current key. It ends with a pass that found nothing to do: a value that was sealed under
// the old key a moment before and stored a moment later is found by the next.
func (k *rekeyer) reseal(ctx context.Context) (total int, err error) {
	r := steppedSealer{k}
	for {
		pass := 0
		for _, part := range []func() (int, error){
			func() (int, error) { return k.keys.Reseal(ctx, k.step) },
			func() (int, error) { return iam.Reseal(ctx, k.db, r) },
			func() (int, error) { return userpool.Reseal(ctx, k.db, r) },
			func() (int, error) { return hook.Reseal(ctx, k.db, r) },
			func() (int, error) { return lambda.Reseal(ctx, k.db, r) },
		} {
			n, err := part()
			pass, total = pass+n, total+n
			if err != nil {
				return total, err
			}
		}
		if pass == 0 {
			return total, nil
		}
	}
}

// steppedSealer announces each secret that it seals again.
type steppedSealer struct{ *rekeyer }

func (s steppedSealer) Reseal(purpose string, sealed, aad []byte) ([]byte, error) {
	out, err := s.master.Sealer().Reseal(purpose, sealed, aad)
	if err == nil && out != nil {
		err = s.step(purpose)
	}
	return out, err
}
