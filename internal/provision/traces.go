package provision

import (
	"context"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Traces returns the newest traces about a subject, at most limit of them, the newest first; "" is everything. A device that was just
// refused is asked about at once, so what waits to be written is written first.
func (p *Service) Traces(ctx context.Context, s fleet.Scope, subject string, limit int) (records []trace.Record, err error) {
	p.Recorder.Flush(ctx)
	err = p.Store.View(ctx, func(tx *store.Tx) (err error) {
		records, err = about(tx, s, subject, limit)
		return err
	})
	return records, err
}

// about finds the newest traces about a subject. Who asks for a serial number, a claim or a thing means the device: what its newest
// certificate was refused since belongs to it.
func about(tx *store.Tx, s fleet.Scope, subject string, limit int) ([]trace.Record, error) {
	const more = decisions // what began in the same millisecond comes in no order, and a rule's decision may be older
	records, err := tx.Traces(s, plainSerial(subject), limit+more)
	if err != nil || len(records) == 0 || records[0].ID == subject {
		return records, err
	}
	newest(records)
	if certificate := records[0].Facts["certificateId"]; subject != "" && certificate != "" && certificate != subject {
		others, err := tx.Traces(s, certificate, limit+more)
		if err != nil {
			return nil, err
		}
		for _, r := range others {
			if r.Outcome != trace.OK && !slices.ContainsFunc(records, func(have trace.Record) bool { return have.ID == r.ID }) {
				records = append(records, r)
			}
		}
		newest(records)
	}
	withDecision(&records[0], slices.Clone(records))
	return records[:min(limit, len(records))], nil
}

// newest puts the newest record first.
func newest(records []trace.Record) {
	slices.SortStableFunc(records, func(a, b trace.Record) int { return b.Start.Compare(a.Start) })
}

var serialForm = fleet.NewPattern(`^([0-9A-Fa-f]{2}:)+[0-9A-Fa-f]{2}$`)

// plainSerial takes a certificate's serial number as openssl prints it. Anything else stays.
func plainSerial(s string) string {
	if !serialForm.MatchString(s) {
		return s
	}
	return strings.TrimLeft(strings.ToLower(strings.ReplaceAll(s, ":", "")), "0")
}
