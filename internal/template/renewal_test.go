package template

import (
	"strings"
	"testing"
	"time"
)

func TestRenewalIsDueInAWindowBeforeTheEnd(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		settings    string
		validity    time.Duration
		from, until time.Duration // after begin
	}{
		"without a word":                     {``, 100 * day, 67 * day, 83*day + 12*time.Hour},
		"as a time":                          {`"RenewalWindow": "30d"`, 90 * day, 60 * day, 75 * day},
		"with its own jitter":                {`"RenewalWindow": "30d", "RenewalJitter": "36h"`, 90 * day, 60 * day, 61*day + 12*time.Hour},
		"as shares":                          {`"RenewalWindow": "50%", "RenewalJitter": "100%"`, 90 * day, 45 * day, 90 * day},
		"never longer than the validity":     {`"RenewalWindow": "30d"`, day, 0, 12 * time.Hour},
		"nor the jitter than the window":     {`"RenewalWindow": "6h", "RenewalJitter": "30d"`, day, 18 * time.Hour, day},
		"of minutes, for short certificates": {`"RenewalWindow": "2m"`, 10 * time.Minute, 8 * time.Minute, 9 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm, err := Parse(`{"Mappings":{"Imprint":{"Settings":{`+c.settings+`}}},"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x"}}}}`, Fleet)
			if err != nil {
				t.Fatal(err)
			}
			from, until := tm.Settings().Renewal(begin, begin.Add(c.validity))
			if from.Sub(begin) != c.from || until.Sub(begin) != c.until {
				t.Errorf("from %v until %v, want %v and %v", from.Sub(begin), until.Sub(begin), c.from, c.until)
			}
		})
	}
}

func TestTimesInSettingsAreCheckedWhenTheTemplateIsMade(t *testing.T) {
	t.Parallel()
	for setting, reason := range map[string]string{
		`"CertificateDays": "0"`:       "no number of days",
		`"CertificateDays": "NaN"`:     "no number of days",
		`"CertificateDays": "90d"`:     "no number of days",
		`"CertificateDays": "99999"`:   "no number of days",
		`"RenewalWindow": "0%"`:        "1% to 100%",
		`"RenewalWindow": "101%"`:      "1% to 100%",
		`"RenewalWindow": "a third"`:   "no time such as 30d",
		`"RenewalWindow": "0s"`:        "no time at all",
		`"RenewalJitter": "-1h"`:       "no time such as 30d",
		`"RenewalOverlap": "99999d"`:   "no time such as 30d",
		`"RenewalOverlap": "always"`:   "no time such as 30d",
		`"ExpiredGrace": "10"`:         "no time such as 30d",
		`"RenewalParameters": "other"`: "none of same, any",
	} {
		_, err := Parse(`{"Mappings":{"Imprint":{"Settings":{`+setting+`}}},"Resources":{}}`, Fleet)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want %q in it", setting, err, reason)
		}
	}
}
