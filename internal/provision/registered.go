package provision

import (
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// decidedBy says who has to activate a certificate whose CA has no template (just-in-time registration), and what came of it so far.
func decidedBy(tx *store.Tx, s fleet.Scope, c fleet.Certificate) (string, error) {
	topic := fleet.RegisteredTopic + c.CAID
	why := "its CA " + c.CAID + " registers certificates without a template (just-in-time registration): whoever listens to " + topic + " has to activate it with UpdateCertificate"
	records, err := tx.Traces(s, c.ID, decisions)
	if err != nil {
		return "", err
	}
	if text, found := decision(records); found {
		return why + ", which has not been done. " + text, nil
	}
	rules, _, err := tx.TopicRules(s, new(false), fleet.Page{})
	if err != nil {
		return "", err
	}
	for _, r := range rules {
		if fleet.TopicMatches(r.Filter, topic) {
			return why + ". The rule " + r.Name + " does, and nothing is known yet of what it made of this one", nil
		}
	}
	return why + ". No rule of this account does: aws iot create-topic-rule with SELECT * FROM '" + fleet.RegisteredTopic + "#' makes one", nil
}

// decisions bounds the records among which that of a rule is looked for: a device that waits connects again and again.
const decisions = 40

// decision is what a rule made last of the event that a certificate waits, from the newest records about it.
func decision(records []trace.Record) (text string, found bool) {
	newest(records)
	for _, r := range records {
		if r.Kind != trace.Rule || !strings.HasPrefix(r.Facts["topic"], fleet.RegisteredTopic) {
			continue
		}
		text := r.Cause
		if r.Outcome == trace.OK && len(r.Steps) > 0 {
			text = r.Steps[len(r.Steps)-1].Text
		}
		return "At " + r.Start.UTC().Format(time.RFC3339) + " " + text + " (trace " + r.ID + ")", true
	}
	return "", false
}

// withDecision adds to a record about a certificate that was not let in what a rule had decided about it.
func withDecision(r *trace.Record, records []trace.Record) {
	if r.Kind != trace.Connect || r.Outcome == trace.OK || r.Facts["certificateId"] == "" {
		return
	}
	if text, found := decision(records); found {
		r.Steps = append(r.Steps, trace.Step{At: r.Took, Name: "rule", Text: text})
	}
}
