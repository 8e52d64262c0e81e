package hook

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/rulesql"
	"github.com/imprint-iot/imprint/internal/store"
)

// NewFunction is what a function is made of. Which fields a kind takes, fleet.Function says.
type NewFunction struct {
	fleet.Function              // but Sealed and Modified; Timeout 0: DefaultTimeout
	Secret         fleet.Secret // "": the one that it has; a webhook that has none gets one
}

const purposeSecret = "function secret"

func sealedFor(s fleet.Scope, name string) []byte { return []byte(s.String() + "/" + name) }

// PutFunction adds a function, or replaces that of its name. made is the secret of a webhook that was given none; it is shown this
// once. Errors are of KindInvalid and KindLimit.
func (s *Service) PutFunction(ctx context.Context, scope fleet.Scope, n NewFunction) (f fleet.Function, made fleet.Secret, err error) {
	f = n.Function
	if f.Timeout == 0 {
		f.Timeout = DefaultTimeout
	}
	if f.Kind == fleet.Lambda {
		if f.Remote == "" {
			f.Remote = f.Name
		}
		if f.Region == "" {
			f.Region = scope.Region
		}
	}
	tables, err := check(f, n.Secret)
	if err != nil {
		return f, "", err
	}
	drawn := fleet.Secret(fleet.RandomString(43, fleet.AlphaAlnum)) // 256 bits
	err = s.Store.Tx(ctx, func(tx *store.Tx) error {
		for _, table := range tables {
			if _, err := tx.TableHas(scope, table, ""); err != nil {
				if fleet.KindOf(err) == fleet.KindNotFound {
					err = fleet.Invalid("function", f.Name, "the rule asks the table %s, which does not exist: make it with imprint table put %[1]s", table)
				}
				return err
			}
		}
		old, err := tx.Function(scope, f.Name)
		known := err == nil
		if err != nil && fleet.KindOf(err) != fleet.KindNotFound {
			return err
		}
		if known && old.Kind == fleet.Local {
			return fleet.Invalid("function", f.Name, "is code that this server runs: delete it first, with imprint function delete %s", f.Name)
		}
		secret := n.Secret
		made, f.Sealed = "", nil
		switch {
		case secret != "" || f.Kind == fleet.Rule:
		case f.Kind == fleet.Lambda && f.AccessKeyID == "":
		case known && old.Kind == f.Kind && old.AccessKeyID == f.AccessKeyID && len(old.Sealed) > 0:
			f.Sealed = old.Sealed
		case f.Kind == fleet.Webhook:
			secret, made = drawn, drawn
		default:
			return fleet.Invalid("function", f.Name, "an access key id needs its secret")
		}
		if secret != "" {
			f.Sealed = s.Sealer.Seal(purposeSecret, []byte(secret.Reveal()), sealedFor(scope, f.Name))
		}
		if !known {
			count, err := tx.CountFunctions(scope)
			if err == nil && count >= fleet.MaxFunctions {
				err = fleet.OverLimit("function", f.Name, "would be one too many: %d are allowed", fleet.MaxFunctions)
			}
			if err != nil {
				return err
			}
		}
		f.Modified = tx.Now()
		return tx.PutFunction(scope, f)
	})
	return f, made, err
}

// DeleteFunction removes a function; templates that name it refuse every device from then on. It fails with KindNotFound.
func (s *Service) DeleteFunction(ctx context.Context, scope fleet.Scope, name string) error {
	err := s.Store.Tx(ctx, func(tx *store.Tx) error { return tx.DeleteFunction(scope, name) })
	if err == nil {
		s.Forget(scope, name)
		s.Local.Forget(scope, name)
	}
	return err
}

// Forget drops what is known of a function that is gone.
func (s *Service) Forget(scope fleet.Scope, name string) { s.circuits.forget(scope, name) }

// check tells what is wrong with a function, and which tables its rule asks.
func check(f fleet.Function, secret fleet.Secret) (tables []string, err error) {
	fail := func(format string, args ...any) ([]string, error) {
		return nil, fleet.Invalid("function", f.Name, format, args...)
	}
	switch {
	case !fleet.ValidFunctionName(f.Name):
		return fail("a name has 1 to 64 letters, digits and characters of _-")
	case f.Timeout < MinTimeout || f.Timeout > MaxTimeout:
		return fail("the timeout %v is not between %v and %v", f.Timeout, MinTimeout, MaxTimeout)
	}
	isLambda, isRule := f.Kind == fleet.Lambda, f.Kind == fleet.Rule
	switch {
	case f.Kind != fleet.Webhook && !isLambda && !isRule:
		return fail("the kind %q is none of webhook, lambda and rule", f.Kind)
	case !isLambda && f.Remote+f.Region+f.AccessKeyID != "":
		return fail("only a function of kind lambda has a name, region and access key at its endpoint")
	case isRule && f.URL != "", isRule && secret != "":
		return fail("a rule has neither URL nor secret")
	case !isRule && f.Rule != "":
		return fail("only a function of kind rule has a rule")
	case isLambda && f.AccessKeyID == "" && secret != "":
		return fail("a secret needs its access key id")
	case len(f.Remote) > 170 || len(f.Region) > 64 || len(f.AccessKeyID) > 128 || len(secret) > 1024:
		return fail("name, region, access key id or secret is too long")
	case f.Kind == fleet.Webhook && secret != "" && len(secret) < 16:
		return fail("a secret has at least 16 characters; leave it out to have one made")
	}
	if isRule {
		x, err := rulesql.ParseExpression(f.Rule)
		if err != nil {
			return nil, err
		}
		return x.Tables(), nil
	}
	return nil, checkURL(f)
}

// checkURL takes https, and http to this machine only: parameters of devices are nobody else's business.
func checkURL(f fleet.Function) error {
	u, err := url.Parse(f.URL)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || len(f.URL) > 2048:
		return fleet.Invalid("function", f.Name, "the URL is not one like https://hooks.example.com/provision")
	case u.User != nil || u.Fragment != "":
		return fleet.Invalid("function", f.Name, "the URL has a user or a fragment: requests are signed, leave it out")
	case f.Kind == fleet.Lambda && u.RawQuery != "":
		return fleet.Invalid("function", f.Name, "the URL of an endpoint has no query")
	case u.Scheme == "https", u.Scheme == "http" && local(u.Hostname()):
		return nil
	}
	return fleet.Invalid("function", f.Name, "the URL must begin with https://; http:// is for this machine only, by its address")
}

func local(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// open returns the secret of a function.
func (s *Service) open(scope fleet.Scope, f fleet.Function) ([]byte, error) {
	secret, err := s.Sealer.Open(purposeSecret, f.Sealed, sealedFor(scope, f.Name))
	if err != nil {
		return nil, fmt.Errorf("its secret: %w", err)
	}
	return secret, nil
}

// A Resealer seals again, under the current master key, what was sealed under an older one; nil: nothing to do.
type Resealer interface {
	Reseal(purpose string, sealed, aad []byte) ([]byte, error)
}

// Reseal brings every secret of a function under the current master key and returns how many it changed.
func Reseal(ctx context.Context, db *store.DB, r Resealer) (int, error) {
	return db.ReplaceSealed(ctx, store.SealedFunctions, func(v store.SealedValue) ([]byte, error) {
		return r.Reseal(purposeSecret, v.Value, sealedFor(v.Scope, v.Keys[0]))
	})
}

// sweepChunk is how many keys of a deleted table go at a time, so that a registration never waits long.
const sweepChunk = 500

// Sweep removes the keys of deleted tables. The server calls it every minute or so.
func (s *Service) Sweep(ctx context.Context, _ time.Time) error {
	for more := true; more; {
		if err := s.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			more, err = tx.SweepTables(sweepChunk)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
