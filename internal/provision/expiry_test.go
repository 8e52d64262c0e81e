package provision

import (
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// expiries lists what ends in a year and what has ended in one, by thing.
func (f *fixture) expiries() map[string]Expiry {
	f.t.Helper()
	return view(f, func(tx *store.Tx) (map[string]Expiry, error) {
		list, _, err := f.Service.Expiries(tx, here, tx.Now().AddDate(-1, 0, 0), tx.Now().AddDate(1, 0, 0), fleet.Page{})
		out := map[string]Expiry{}
		for _, e := range list {
			if _, two := out[e.Thing]; !two { // the one that ends first
				out[e.Thing] = e
			}
		}
		return out, err
	})
}

func TestTheForecastTellsWhereEachCertificateStands(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"CertificateDays": "90", "RenewalWindow": "30d", "RenewalJitter": "10d", "ExpiredGrace": "14d"`))
	f.template("strict", withSettings(`"CertificateDays": "90"`))
	f.template("aws", lamps)
	quiet, asked, renewed, connected := f.device("lamps", "quiet"), f.device("lamps", "asked"), f.device("lamps", "renewed"), f.device("lamps", "connected")
	f.device("strict", "strict")
	f.device("aws", "aws")
	f.connect(quiet)
	day := 24 * time.Hour
	start := f.Clock.Now()
	want := func(what string, states map[string]string) {
		t.Helper()
		got := f.expiries()
		for thing, state := range states {
			if got["lamp-"+thing].State != state {
				t.Errorf("%s: %s is %q, want %q", what, thing, got["lamp-"+thing].State, state)
			}
		}
		if _, listed := got["lamp-aws"]; listed {
			t.Errorf("%s: a certificate that ends in 2049 is listed", what)
		}
	}
	at := func(age time.Duration) { f.pass(age - f.Clock.Now().Sub(start)) }
	want("fresh", map[string]string{"quiet": ExpiryWaiting, "strict": ExpiryWaiting})
	if e := f.expiries()["lamp-quiet"]; e.LastSeen.IsZero() || e.Template != "lamps" || !e.RenewFrom.Equal(e.NotAfter.Add(-30*day)) || !e.RenewUntil.Equal(e.RenewFrom.Add(10*day)) {
		t.Errorf("%+v", e)
	}
	at(61 * day)
	f.certificate(asked)
	f.renew(renewed, "lamps", "renewed")
	f.connect(f.renew(connected, "lamps", "connected"))
	want("in the window", map[string]string{"quiet": ExpiryDue, "strict": ExpiryDue, "asked": ExpiryRenewing, "renewed": ExpiryRenewing, "connected": ExpiryReplaced})
	at(76 * day)
	want("late", map[string]string{"quiet": ExpiryOverdue, "strict": ExpiryOverdue})
	at(91 * day)
	want("expired", map[string]string{"quiet": ExpiryGrace, "strict": ExpiryExpired})
	at(110 * day)
	want("after the grace", map[string]string{"quiet": ExpiryExpired})
}
