package template

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// What counts for templates that say nothing else. imprint-device goes by the same numbers.
const (
	DefaultRenewalWindow  = Span(-33)
	DefaultRenewalJitter  = Span(-50)
	DefaultRenewalOverlap = 24 * time.Hour // where a template says when renewal is due
)

// maxTime bounds the times in settings.
const maxTime = 25 * 365 * 24 * time.Hour

// A Span is a length of time, or a share of another one: a negative value is a percentage.
type Span time.Duration

// Of returns the length of the span where whole is what it is a share of, and never more than that.
func (s Span) Of(whole time.Duration) time.Duration {
	if s < 0 {
		return time.Duration(float64(whole) * float64(-s) / 100)
	}
	return min(time.Duration(s), whole)
}

// Renewal returns when a certificate that is valid from notBefore to notAfter is to be renewed: devices spread from from to until. What
// is not renewed after that is overdue.
func (s Settings) Renewal(notBefore, notAfter time.Time) (from, until time.Time) {
	window, jitter := s.RenewalWindow, s.RenewalJitter
	if window == 0 {
		window = DefaultRenewalWindow
	}
	if jitter == 0 {
		jitter = DefaultRenewalJitter
	}
	length := window.Of(notAfter.Sub(notBefore))
	from = notAfter.Add(-length)
	return from, from.Add(jitter.Of(length))
}

var days = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(\d{1,5})d$`) })

// parseTime reads a length of time as people write it: 30d, 36h, 1h30m. d stands alone.
func parseTime(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if m := days().FindStringSubmatch(v); m != nil {
		n, _ := strconv.Atoi(m[1])
		d, err = time.Duration(n)*24*time.Hour, nil
	}
	if err != nil || d < 0 || d > maxTime {
		return 0, fmt.Errorf("%q is no time such as 30d, 36h or 90m, up to %dd", clip(v), maxTime/(24*time.Hour))
	}
	return d, nil
}

// parseSpan reads a time or a percentage, of which neither may be nothing.
func parseSpan(v string) (Span, error) {
	if p, ok := strings.CutSuffix(v, "%"); ok {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 100 {
			return 0, fmt.Errorf("%q is no percentage: those are 1%% to 100%%", clip(v))
		}
		return Span(-n), nil
	}
	d, err := parseTime(v)
	if err == nil && d == 0 {
		err = fmt.Errorf("%q is no time at all", clip(v))
	}
	return Span(d), err
}

// parseOverlap reads RenewalOverlap; what it is without a word is up to completeRenewal.
func parseOverlap(s *Settings, v string) error {
	if v == "never" {
		return nil
	}
	d, err := parseTime(v)
	s.RenewalOverlap = &d
	return err
}

// Days is a length of time in days.
type Days float64

// Duration returns the length to the second.
func (d Days) Duration() time.Duration {
	return time.Duration(float64(d) * 24 * float64(time.Hour)).Round(time.Second)
}

// parseDays reads CertificateDays. A certificate must outlive the minutes in which its device connects with it.
func parseDays(v string) (Days, error) {
	n, err := strconv.ParseFloat(v, 64)
	if d := Days(n); err != nil || !(n < 9132) || d.Duration() < 30*time.Second {
		return 0, fmt.Errorf("%q is no number of days such as 90 or 0.5, from half a minute to 9131", clip(v))
	}
	return Days(n), nil
}

// completeRenewal decides what depends on several settings. said has the text of each.
func (s *Settings) completeRenewal(said map[string]string) {
	if _, ok := said["RenewalOverlap"]; !ok && (s.RenewalWindow != 0 || s.CertificateDays != 0) {
		s.RenewalOverlap = new(DefaultRenewalOverlap)
	}
}

// renewal keeps a device to itself: whoever asks with the certificate of a thing gets another one for that thing, not for others, unless
// the template says that things are open. The certificate that asked goes when the new one has connected, if the template says so.
func (r *resolver) renewal() error {
	t := r.d.Thing
	if t == nil || len(r.snap.RequesterThings) == 0 {
		return nil
	}
	if !slices.Contains(r.snap.RequesterThings, t.Name) {
		if r.d.Settings.rule(r.snap) == ReprovisionAWS {
			return nil
		}
		return r.refuse("principals", &fleet.Error{Kind: fleet.KindDenied, Resource: "thing", Name: t.Name, Msg: fmt.Sprintf(
			"may not be provisioned with the certificate of the thing %q, which is good for renewing itself. To allow it, set Mappings.Imprint.Settings.Reprovision to aws in the template",
			r.snap.RequesterThings[0])})
	}
	requester, _ := fleet.ParseARN(r.snap.Requester)
	principal := r.snap.Thing != nil && slices.ContainsFunc(r.snap.Thing.Principals, func(a fleet.Attachment) bool { return a.Principal == r.snap.Requester })
	if overlap := r.d.Settings.RenewalOverlap; principal && overlap != nil && r.d.Certificate != nil && requester.Name() != r.certificateID() {
		r.plan.Supersede, r.plan.Overlap = append(r.plan.Supersede, requester.Name()), *overlap
		r.decide(Change, "certificate", requester.Name(), "status", "is to be INACTIVE and detached from %s %v after the new certificate has connected: the template's setting RenewalOverlap", t.Name, *overlap)
	}
	return nil
}
