package main

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
	"github.com/imprint-iot/imprint/internal/store"
)

// measureGrowth seeds the store of another server with things and compares the cost of a flow there with the cost here. ServerMicros is
// the small one's, Share the large one's share of it.
func measureGrowth(ctx context.Context, o options, w *world) (*figures, error) {
	if o.growth == 0 {
		return nil, errNotAsked
	}
	dir, err := os.MkdirTemp("", "imprint-bench-growth-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := startServer(ctx, o.bin, dir)
	if err != nil {
		return nil, err
	}
	large, err := prepare(ctx, s, o.workers)
	s.stop()
	if err != nil {
		return nil, err
	}
	progress("seeding %d things", o.growth)
	if err := seed(ctx, filepath.Join(dir, "imprint-data", "imprint.db"), fleet.Scope{Account: "000000000000", Region: s.env.Get("AWS_REGION")}, o.growth); err != nil {
		return nil, err
	}
	if s, err = startServer(ctx, o.bin, dir); err != nil {
		return nil, err
	}
	defer s.stop()
	if err := large.meet(s); err != nil {
		return nil, err
	}
	for _, x := range []*world{large, w} {
		if err := x.renewClaims(ctx, o.workers); err != nil {
			return nil, err
		}
	}
	f, err := inTurns(ctx, o, w, large, measureFlows)
	if err != nil {
		return nil, err
	}
	f.Count = o.growth
	f.CommitP99Millis, err = s.commitP99(ctx)
	return f, err
}

// seed writes what provisioning n devices leaves behind.
func seed(ctx context.Context, path string, scope fleet.Scope, n int) error {
	db, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		return err
	}
	defer db.Close()
	const chunk = 2000
	for begin := 0; begin < n; begin += chunk {
		err := db.Tx(ctx, func(tx *store.Tx) error {
			for i := begin; i < min(begin+chunk, n); i++ {
				if err := seedOne(tx, scope, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func seedOne(tx *store.Tx, s fleet.Scope, i int) error {
	name, id := fmt.Sprintf("seed-%07d", i), fleet.RandomString(64, fleet.AlphaHex)
	claim := fleet.RandomString(64, fleet.AlphaHex)
	now := tx.Now()
	if err := tx.CreateThing(s, fleet.Thing{Name: name, ID: fleet.NewUUID(), Attributes: map[string]string{"serial": name}, Version: 1, Created: now}); err != nil {
		return err
	}
	if err := tx.CreateCertificate(s, fleet.Certificate{ID: id, PEM: strings.Repeat("x", 700), Status: fleet.Active, Mode: fleet.ModeDefault, NotBefore: now,
		NotAfter: now.Add(time.Hour), Created: now, Modified: now, Version: 2, Generation: fleet.NewUUID(),
		Origin: fleet.CertificateOrigin{ClaimID: claim, Template: templateName, CSRHash: fleet.RandomString(64, fleet.AlphaHex)}}); err != nil {
		return err
	}
	if _, err := tx.AttachPolicy(s, "lamp", s.IoT("cert", id)); err != nil {
		return err
	}
	if err := tx.AttachThing(s, fleet.Attachment{Thing: name, Principal: s.IoT("cert", id), Type: fleet.NonExclusive}); err != nil {
		return err
	}
	return tx.PutRegistration(s, store.Registration{Certificate: id, Thing: name, Template: templateName, Version: 1, Principal: claim,
		Parameters: fleet.RandomString(64, fleet.AlphaHex), Created: now})
}

// commitP99 is the 99th percentile of the server's commits, to the bound of the histogram's bucket.
func (p *process) commitP99(ctx context.Context) (millis float64, err error) {
	text, err := p.metrics(ctx)
	if err != nil {
		return 0, err
	}
	var bounds, counts []float64
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), `imprint_store_commit_duration_seconds_bucket{le="`)
		bound, count, ok := strings.Cut(rest, `"} `)
		if !found || !ok {
			continue
		}
		b, _ := strconv.ParseFloat(bound, 64) // +Inf is understood
		n, _ := strconv.ParseFloat(count, 64)
		bounds, counts = append(bounds, b), append(counts, n)
	}
	for i := range bounds {
		if counts[i] >= 0.99*counts[len(counts)-1] {
			return bounds[i] * 1000, nil
		}
	}
	return 0, errors.New("the server tells no commits")
}

// grouped is how many commits the server has made, and how many transactions shared them.
func (p *process) grouped(ctx context.Context) (commits, transactions float64, err error) {
	text, err := p.metrics(ctx)
	const name = "\nimprint_store_commit_group_size_"
	_, count, found := strings.Cut(text, name+"count ")
	_, sum, ok := strings.Cut(text, name+"sum ")
	if err == nil && (!found || !ok) {
		err = errors.New("the server tells no groups of transactions")
	}
	fmt.Sscan(count, &commits)
	fmt.Sscan(sum, &transactions)
	return commits, transactions, err
}
