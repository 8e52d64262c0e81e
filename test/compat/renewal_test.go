package compat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	agentlib "github.com/imprint-iot/imprint/device"
	"github.com/imprint-iot/imprint/internal/template"
)

// newRenewalWorld is a world whose template has settings, and whose devices may renew themselves and do nothing else that they need not.
func newRenewalWorld(t *testing.T, s *site, prefix string, settings object) *world {
	t.Helper()
	w := newWorld(t, s, prefix)
	const me = "${iot:Connection.Thing.ThingName}"
	renewal := []string{"$aws/certificates/create*", "$aws/provisioning-templates/" + w.template + "/provision/*"} // as docs/renewal.md says
	arns := func(kind string) (out []string) {
		for _, topic := range renewal {
			out = append(out, w.iotARN(kind+"/"+topic))
		}
		return out
	}
	policy := w.prefix + "-renewing"
	_, err := w.admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &policy, PolicyDocument: text(object{"Version": "2012-10-17", "Statement": []object{
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": w.iotARN("client/" + me)},
		{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:Receive"}, "Resource": w.iotARN("topic/lamps/" + me + "/*")},
		{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": w.iotARN("topicfilter/lamps/" + me + "/*")},
		{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:Receive"}, "Resource": arns("topic")},
		{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": arns("topicfilter")}}})})
	check(t, err)
	body := w.templateBody()
	body["Mappings"].(object)["Imprint"] = object{"Settings": settings}
	body["Resources"].(object)["policy"] = object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": policy}}
	for _, name := range []string{"RenewalWindow", "RenewalJitter"} {
		if settings[name] != nil {
			body["DeviceConfiguration"].(object)[name] = object{"Fn::FindInMap": []string{"Imprint", "Settings", name}}
		}
	}
	_, err = w.admin.iot.CreateProvisioningTemplateVersion(t.Context(), &iot.CreateProvisioningTemplateVersionInput{TemplateName: &w.template, SetAsDefault: true,
		TemplateBody: text(body)})
	check(t, err)
	return w
}

// certificatesOf lists the certificates of a thing, of any status.
func (w *world) certificatesOf(t *testing.T, serial string) []string {
	t.Helper()
	name := w.thing(serial)
	out, err := w.admin.iot.ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: &name})
	check(t, err)
	return out.Principals
}

// A device of foreign code renews itself over the topics that it was provisioned over.
func TestForeignClientsRenewThemselves(t *testing.T) {
	t.Parallel()
	w := newRenewalWorld(t, sharedServer(t), "renew", object{"CertificateDays": "90", "RenewalOverlap": "0s"})
	ida := w.installerSDK(t)
	for i, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			serial := fmt.Sprintf("f%d", i)
			first, _ := v.provision(t, w, w.claim(t, ida), serial)
			d := v.dial(t, w.site, w.thing(serial), first.CertificatePEM, first.PrivateKey)
			defer d.close()
			next := v.create(t, d)
			if _, no, ok := v.register(t, d, w.template, next.Token, object{"SerialNumber": serial + "0"}); ok || no.StatusCode != 403 {
				t.Errorf("another device's parameters: %+v", no)
			}
			out, no, ok := v.register(t, d, w.template, next.Token, object{"SerialNumber": serial})
			if !ok || *out.ThingName != w.thing(serial) {
				t.Fatalf("renewal: %+v %+v", out, no)
			}
			if n := w.active(t, serial); n != 2 {
				t.Errorf("before the new certificate has connected there are %d", n)
			}
			renewed := v.dial(t, w.site, w.thing(serial), next.CertificatePEM, next.PrivateKey)
			defer renewed.close()
			topic := "lamps/" + w.thing(serial) + "/state"
			renewed.subscribe(t, topic)
			renewed.publish(t, topic, []byte("renewed"))
			renewed.receive(t, topic)
			eventually(t, func() bool {
				of := w.certificatesOf(t, serial)
				return len(of) == 1 && strings.HasSuffix(of[0], next.CertificateID)
			})
			w.checkActive(t, serial, 1)
		})
	}
}

// eventually waits until something is true that the server does on its own.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not happen")
		}
	}
}

// agentEvent is a line of `imprint-device run`.
type agentEvent struct {
	Event, ThingName, CertificateID, NotAfter, Topic string
	Error                                            *struct{ Code, Message string }
}

func TestTheAgentRenewsItselfWhileItRuns(t *testing.T) {
	t.Parallel()
	w := newRenewalWorld(t, sharedServer(t), "agentrenew", object{"CertificateDays": "0.01", "RenewalWindow": "855s", "RenewalJitter": "5s", "RenewalOverlap": "0s"}) // after nine seconds of 864
	dir := t.TempDir()
	w.site.run(t, dir, nil, agent(), w.agentArgs(dir, claimFile(t, dir, w.claim(t, w.installerSDK(t))), "1")...)
	own := "lamps/" + w.thing("1") + "/state"
	cmd := exec.Command(agent(), "run", "--dir", filepath.Join(dir, "device"), "--subscribe", own, "--publish", own+"=on", "--quiet")
	cmd.Env = w.site.environ()
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	limit := time.AfterFunc(10*time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	var ids, heard []string
	for lines := bufio.NewScanner(stdout); len(ids) < 2 && lines.Scan(); {
		e := must[agentEvent](t, lines.Text())
		if heard = append(heard, e.Event); e.Event == "renewed" {
			ids = append(ids, e.CertificateID)
		}
	}
	if len(ids) != 2 || ids[0] == ids[1] || slices.Contains(heard, "disconnected") || slices.Contains(heard, "renewal-failed") {
		t.Fatalf("heard %v", heard)
	}
	if first := slices.Index(heard, "renewed"); !slices.Contains(heard[first:], "message") {
		t.Errorf("after the renewal nothing comes any more: %v", heard)
	}
	eventually(t, func() bool {
		of := w.certificatesOf(t, "1")
		return len(of) == 1 && strings.HasSuffix(of[0], ids[1])
	})
	status := w.site.run(t, dir, nil, agent(), "status", "--dir", filepath.Join(dir, "device"))
	if !strings.Contains(status, `"renewal":{"from":`) {
		t.Errorf("status %s", status)
	}
	out := w.site.run(t, dir, nil, filepath.Join(bin, "imprint"), "expiry", "--data", w.site.data, "--json", "--limit", "1000")
	if !strings.Contains(out, ids[1]) || !strings.Contains(out, `"templateName": "`+w.template+`"`) {
		t.Errorf("the forecast does not know the certificate: %s", out)
	}
}

// TestARenewalSurvivesBeingKilled kills the agent after ever longer times until it gets through: what remains is one certificate.
func TestARenewalSurvivesBeingKilled(t *testing.T) {
	t.Parallel()
	w := newRenewalWorld(t, sharedServer(t), "killrenew", object{"CertificateDays": "90", "RenewalOverlap": "0s"})
	ida := w.installerSDK(t)
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			dir, serial := t.TempDir(), fmt.Sprintf("k%d", round)
			first := must[agentStatus](t, w.site.run(t, dir, nil, agent(), w.agentArgs(dir, claimFile(t, dir, w.claim(t, ida)), serial)...))
			last := first.CertificateID
			for after := time.Duration(rand.IntN(10)) * time.Millisecond; ; after = longer(after) {
				if after > time.Minute {
					t.Fatal("never got through")
				}
				ctx, cancel := context.WithTimeout(t.Context(), after)
				cmd := exec.CommandContext(ctx, agent(), "renew", "--dir", filepath.Join(dir, "device"), "--quiet")
				cmd.Env = w.site.environ()
				out, err := cmd.Output()
				cancel()
				if err == nil {
					last = must[agentStatus](t, string(out)).CertificateID
					break
				}
			}
			own := "lamps/" + w.thing(serial) + "/state"
			w.site.run(t, dir, nil, agent(), "run", "--once", "--dir", filepath.Join(dir, "device"), "--publish", own+"=on")
			eventually(t, func() bool {
				of := w.certificatesOf(t, serial)
				return len(of) == 1 && strings.HasSuffix(of[0], last)
			})
		})
	}
}

// A fleet that was provisioned at one time renews spread over the window, each device once.
func TestAFleetRenewsSpreadOverItsWindow(t *testing.T) {
	t.Parallel()
	const devices = 50
	w := newRenewalWorld(t, sharedServer(t), "fleetrenew", object{"CertificateDays": "0.01", "RenewalWindow": "843s", "RenewalJitter": "20s", "RenewalOverlap": "0s"})
	ida := w.installerSDK(t)
	stores := make([]*agentlib.Store, devices)
	c := w.claim(t, ida)
	b, err := json.Marshal(object{"certificatePem": c.cert, "privateKey": c.key, "endpoint": w.site.get("IOT_ENDPOINT") + ":" + w.site.get("IOT_PORT"), "templateName": w.template})
	check(t, err)
	claim, err := agentlib.ParseClaim(b)
	check(t, err)
	roots, err := os.ReadFile(w.site.get("AWS_CA_BUNDLE"))
	check(t, err)
	var wg sync.WaitGroup
	room := make(chan bool, 4)
	for i := range devices {
		wg.Go(func() {
			room <- true
			defer func() { <-room }()
			dir := filepath.Join(t.TempDir(), "store")
			_, err := agentlib.Provision(t.Context(), agentlib.Config{Dir: dir, Claim: claim, Roots: string(roots), Parameters: map[string]string{"SerialNumber": fmt.Sprint(i)}})
			if err == nil {
				stores[i], err = agentlib.OpenStore(dir)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	renewedAt, failed := make([]time.Time, devices), make([]error, devices)
	began := time.Now()
	plan, shares := make([]time.Time, devices), make([]time.Duration, devices)
	for i, store := range stores {
		id, err := store.Identity()
		check(t, err)
		s := id.Renewal(began)
		plan[i], shares[i] = s.At, s.At.Sub(s.From)
	}
	for i, store := range stores {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			err := agentlib.Run(ctx, store.Identity, agentlib.RunConfig{Renewal: &agentlib.Renewal{Store: store,
				Renewed: func(*agentlib.Identity) { renewedAt[i] = time.Now(); cancel() },
				Failed:  func(err error, _ time.Duration) { failed[i] = err }}})
			if err != nil || renewedAt[i].IsZero() {
				t.Errorf("device %d: %v, %v", i, err, failed[i])
			}
			if renewedAt[i].Before(plan[i]) {
				t.Errorf("device %d renewed at %v, which is before its time, %v", i, renewedAt[i], plan[i])
			}
		})
	}
	wg.Wait()
	slices.SortFunc(renewedAt, time.Time.Compare)
	t.Logf("the first renewed after %v, the last %v later", renewedAt[0].Sub(began).Round(time.Second), renewedAt[devices-1].Sub(renewedAt[0]).Round(time.Second))
	// The plan's spread: a slow machine has made the last device when the first is due, and renews many at once.
	if spread := slices.Max(shares) - slices.Min(shares); spread < 8*time.Second {
		t.Errorf("all are to renew within %v", spread)
	}
	for i := range devices {
		eventually(t, func() bool { return len(w.certificatesOf(t, fmt.Sprint(i))) == 1 })
	}
}

// The agent and the server read the same words in the same way.
func TestAgentAndServerAgreeWhenARenewalIsDue(t *testing.T) {
	t.Parallel()
	w := newRenewalWorld(t, sharedServer(t), "agree", object{"CertificateDays": "90", "RenewalWindow": "30d", "RenewalJitter": "25%"})
	dir := t.TempDir()
	w.site.run(t, dir, nil, agent(), w.agentArgs(dir, claimFile(t, dir, w.claim(t, w.installerSDK(t))), "1")...)
	store, err := agentlib.OpenStore(filepath.Join(dir, "device"))
	check(t, err)
	id, err := store.Identity()
	check(t, err)
	s := id.Renewal(time.Now())
	tm, err := template.Parse(`{"Mappings": {"Imprint": {"Settings": {"RenewalWindow": "30d", "RenewalJitter": "25%"}}}, "Resources": {}}`, template.Fleet)
	check(t, err)
	leaf := id.Certificate().Leaf
	from, until := tm.Settings().Renewal(leaf.NotBefore, leaf.NotAfter)
	if !s.From.Equal(from) || s.At.Before(from) || s.At.After(until) {
		t.Errorf("the agent renews from %v at %v, the server expects it from %v to %v", s.From, s.At, from, until)
	}
}

// A device that was off beyond its certificate's end renews itself where its template gives it time, and nowhere else.
func TestADeviceThatWasOffTooLong(t *testing.T) {
	t.Parallel()
	for grace, want := range map[string]int{"1h": 0, "0s": 7} {
		t.Run(grace, func(t *testing.T) {
			t.Parallel()
			w := newRenewalWorld(t, sharedServer(t), "off"+grace, object{"CertificateDays": "0.0004", "ExpiredGrace": grace, "RenewalOverlap": "0s"})
			dir := t.TempDir()
			w.site.run(t, dir, nil, agent(), w.agentArgs(dir, claimFile(t, dir, w.claim(t, w.installerSDK(t))), "1")...)
			store, err := agentlib.OpenStore(filepath.Join(dir, "device"))
			check(t, err)
			id, err := store.Identity()
			check(t, err)
			eventually(t, func() bool { return time.Now().After(id.Certificate().Leaf.NotAfter.Add(time.Second)) })
			out, err := w.site.try(t, dir, nil, agent(), "run", "--once", "--dir", filepath.Join(dir, "device"), "--publish", "lamps/"+w.thing("1")+"/state=on")
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
				t.Errorf("an expired certificate publishes: %v\n%s", err, out)
			}
			out, err = w.site.try(t, dir, nil, agent(), "renew", "--dir", filepath.Join(dir, "device"), "--quiet", "--timeout", "5m")
			exit, _ := errors.AsType[*exec.ExitError](err)
			if want == 0 && err != nil || want != 0 && (exit == nil || exit.ExitCode() != want) {
				t.Fatalf("%v\n%s", err, out)
			}
			if want == 0 {
				w.site.run(t, dir, nil, agent(), "run", "--once", "--dir", filepath.Join(dir, "device"), "--publish", "lamps/"+w.thing("1")+"/state=on")
			}
		})
	}
}
