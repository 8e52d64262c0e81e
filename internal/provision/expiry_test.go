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

func TestTheForecastCountsWhatEndsWithinAMonthUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"CertificateDays": "90"`))
	f.template("aws", lamps)
	day := 24 * time.Hour
	f.device("lamps", "1")
	f.device("lamps", "2")
	f.device("aws", "3") // ends in 2049
	first := f.expiries()["lamp-1"].NotAfter
	f.pass(50 * day)
	f.device("lamps", "4")
	for _, c := range []struct {
		what           string
		h              Horizon
		total, expired int
		next           bool
		pass           time.Duration
	}{
		{"40 days before", Horizon{}, 0, 0, false, 0},
		{"40 days before, asked for 41", Horizon{Within: new(41 * day)}, 2, 0, true, 0},
		{"20 days before", Horizon{}, 2, 0, true, 20 * day},
		{"a day after", Horizon{}, 2, 2, false, 21 * day},
		{"a day after, asked for what is to come", Horizon{Since: new(time.Duration(0))}, 0, 0, false, 0},
		{"a day after, asked for all", Horizon{Within: new(365 * day)}, 3, 2, true, 0},
	} {
		f.pass(c.pass)
		got, err := f.Service.Forecast(t.Context(), here, c.h)
		list, _, listErr := f.Service.Expiring(t.Context(), here, c.h, fleet.Page{})
		if err != nil || listErr != nil || got.Total != c.total || got.Expired != c.expired || got.Next.IsZero() == c.next || len(list) != c.total {
			t.Errorf("%s: %+v, %d listed, %v, %v", c.what, got, len(list), err, listErr)
		}
		if c.what == "20 days before" && !got.Next.Equal(first) {
			t.Errorf("the next one ends at %v, want %v", got.Next, first)
		}
	}
}
