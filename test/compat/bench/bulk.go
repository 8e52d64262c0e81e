package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

// Bulk registration is measured beside what it cannot do without: in the same round as many certificates are signed for the same requests and
// stored, in groups as the service has them, and nothing else. A line is a new thing with a certificate and a policy; one in a thousand is bad.

const (
	bulkBucket = "bench-bulk"
	bulkLines  = 10000 // of a round
	bulkGroup  = 64    // certificates that are stored together at most
)

// bulkWorld makes what tasks need, once.
func (w *world) bulkWorld(ctx context.Context) error {
	if err := w.admin.REST(ctx, "s3", http.MethodPut, "/"+bulkBucket, nil, nil); err != nil {
		return err
	}
	return w.admin.Query(ctx, "iam", "2010-05-08", "PutRolePolicy", map[string]string{"RoleName": "provisioning", "PolicyName": "bulk", "PolicyDocument": document(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::" + bulkBucket + "/*"}})}, nil)
}

// A bulkTask is how far one is.
type bulkTask struct {
	TaskID                         string `json:"taskId"`
	Status, Message                string
	SuccessCount, FailureCount     int
	CreationDate, LastModifiedDate float64
}

func (t bulkTask) lines() int { return t.SuccessCount + t.FailureCount }

// startBulk begins a task of new things.
func (w *world) startBulk(ctx context.Context, lines int, csr string) (t bulkTask, err error) {
	var input bytes.Buffer
	prefix := fmt.Sprintf("bulk-%d-", w.serial.Add(1))
	for i := range lines {
		line := object{"ThingName": fmt.Sprintf("%s%06d", prefix, i), "SerialNumber": fmt.Sprint(i), "CSR": csr}
		if i%1000 == 500 {
			line["CSR"] = "none"
		}
		text, err := json.Marshal(line)
		if err != nil {
			return t, err
		}
		input.Write(append(text, '\n'))
	}
	if err := w.admin.PutObject(ctx, bulkBucket, "lines.json", &input, int64(input.Len())); err != nil {
		return t, err
	}
	parameter := object{"Type": "String"}
	err = w.admin.REST(ctx, "iot", http.MethodPost, "/thing-registration-tasks", object{"inputFileBucket": bulkBucket, "inputFileKey": "lines.json",
		"roleArn": "arn:aws:iam::000000000000:role/provisioning", "templateBody": document(object{
			"Parameters": object{"ThingName": parameter, "SerialNumber": parameter, "CSR": parameter},
			"Resources": object{
				"thing": object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "ThingName"},
					"AttributePayload": object{"serial": object{"Ref": "SerialNumber"}}}},
				"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateSigningRequest": object{"Ref": "CSR"}, "Status": "ACTIVE"}},
				"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": "lamp"}},
			}})}, &t)
	return t, err
}

// endBulk waits until a task has ended.
func (w *world) endBulk(ctx context.Context, id string) (t bulkTask, err error) {
	tick := time.NewTicker(100 * time.Millisecond) // so that asking costs next to nothing
	defer tick.Stop()
	for {
		if err := w.admin.REST(ctx, "iot", http.MethodGet, "/thing-registration-tasks/"+id, nil, &t); err != nil {
			return t, err
		}
		if t.Status != "InProgress" && t.Status != "Cancelling" {
			return t, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

// measureBulk registers the lines of files. Share is the rate ÷ that of signing and storing alone.
func measureBulk(ctx context.Context, o options, w *world) (*figures, error) {
	if err := w.bulkWorld(ctx); err != nil {
		return nil, err
	}
	c, err := newCandidate()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "imprint-bench-bulk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	signing, err := newSigning(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer signing.db.Close()
	f := &figures{}
	var rate, share, server, own []float64
	for round := range o.rounds + 1 {
		alone, cpu, err := signing.round(ctx, c.csr)
		if err != nil {
			return nil, err
		}
		before := w.server.cpu()
		t, err := w.startBulk(ctx, bulkLines, c.csr)
		if err == nil {
			t, err = w.endBulk(ctx, t.TaskID)
		}
		if err == nil && (t.Status != "Completed" || t.lines() != bulkLines || t.FailureCount != bulkLines/1000) {
			err = fmt.Errorf("the task has ended as %+v", t)
		}
		if err != nil {
			return nil, err
		}
		if round == 0 { // warms up
			continue
		}
		perSecond := bulkLines / (t.LastModifiedDate - t.CreationDate)
		rate, share = append(rate, perSecond), append(share, perSecond/alone)
		server, own = append(server, micros(w.server.cpu()-before)/bulkLines), append(own, cpu)
	}
	f.Count = bulkLines * o.rounds
	f.PerSecond, f.Share, f.ServerMicros, f.ClientMicros = median(rate), median(share), median(server), median(own)
	f.RSSKiB = w.server.rss()
	return f, nil
}

// A signing signs and stores certificates.
type signing struct {
	ca    *pki.Authority
	db    *store.DB
	scope fleet.Scope
}

func newSigning(ctx context.Context, dir string) (*signing, error) {
	ca, err := pki.OpenAuthority(ctx, pki.Config{Dir: filepath.Join(dir, "pki"), Keys: pki.NewMemoryKeys(), NoRSA: true})
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "imprint.db")})
	return &signing{ca, db, fleet.Scope{Account: "000000000000", Region: "us-east-1"}}, err
}

// round signs for bulkLines requests on all processors and stores each group while the next is being signed. It returns how many a second
// there were, and the CPU microseconds of each.
func (s *signing) round(ctx context.Context, csr string) (perSecond, cpu float64, err error) {
	groups := make(chan []fleet.Certificate)
	failed := make(chan error, 1)
	begin, cpuBegin := time.Now(), ownCPU()
	go func() {
		defer close(groups)
		for done := 0; done < bulkLines; done += bulkGroup {
			group := make([]fleet.Certificate, min(bulkGroup, bulkLines-done))
			if err := s.sign(group, csr); err != nil {
				failed <- err
				return
			}
			groups <- group
		}
	}()
	for group := range groups {
		if err == nil {
			err = s.db.Tx(ctx, func(tx *store.Tx) error {
				for _, c := range group {
					c.Created, c.Modified = tx.Now(), tx.Now()
					if err := tx.CreateCertificate(s.scope, c); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	select {
	case signErr := <-failed:
		err = errors.Join(err, signErr)
	default:
	}
	return bulkLines / time.Since(begin).Seconds(), micros(ownCPU()-cpuBegin) / bulkLines, err
}

func (s *signing) sign(group []fleet.Certificate, text string) error {
	var wg sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	for worker := range errs {
		wg.Go(func() {
			for i := worker; i < len(group) && errs[worker] == nil; i += len(errs) {
				csr, err := pki.ParseCSR(text)
				if err != nil {
					errs[worker] = err
					return
				}
				leaf, err := s.ca.IssueDevice(pki.DeviceRequest{PublicKey: csr.PublicKey, Subject: csr.Subject})
				if err != nil {
					errs[worker] = err
					return
				}
				group[i] = fleet.Certificate{ID: leaf.ID, PEM: leaf.PEM, Status: fleet.Active, Mode: fleet.ModeDefault, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
					Version: 1, Generation: fleet.NewUUID()}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// measureBesideBulk provisions devices at a steady rate, in turn in the quiet and beside a task. SlowerMillis is how much longer their flows
// take then at the 99th percentile; P50Millis and P99Millis are those beside the task.
func measureBesideBulk(ctx context.Context, o options, w *world) (*figures, error) {
	c, err := newCandidate()
	if err != nil {
		return nil, err
	}
	if err := w.bulkWorld(ctx); err != nil && !o.wants("bulk") {
		return nil, err
	}
	f := &figures{}
	var slower, lines []float64
	var beside []time.Duration
	for range o.rounds {
		if err := w.renewClaims(ctx, 8); err != nil {
			return nil, err
		}
		w.server.settle()
		quiet, failed := w.steady(o.round())
		t, err := w.startBulk(ctx, int(20000*o.round().Seconds()), c.csr) // more than can be done
		if err != nil {
			return nil, err
		}
		began := time.Now()
		took, more := w.steady(o.round())
		if err := w.admin.REST(ctx, "iot", http.MethodPut, "/thing-registration-tasks/"+t.TaskID+"/cancel", nil, nil); err != nil {
			return nil, err
		}
		length := time.Since(began)
		if t, err = w.endBulk(ctx, t.TaskID); err != nil {
			return nil, err
		}
		if failed+more > 0 || t.Status != "Cancelled" || len(took) == 0 || len(quiet) == 0 {
			return nil, fmt.Errorf("%d flows failed; the task has ended as %+v", failed+more, t)
		}
		_, before, _ := percentiles(quiet)
		_, now, _ := percentiles(took)
		slower, lines = append(slower, now-before), append(lines, float64(t.lines())/length.Seconds())
		beside = append(beside, took...)
	}
	f.SlowerMillis, f.PerSecond = median(slower), median(lines)
	f.P50Millis, f.P99Millis, f.Count = percentiles(beside)
	f.RSSKiB = w.server.rss()
	return f, nil
}
