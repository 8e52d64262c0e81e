package gateway

import (
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
)

// Devices share a bootstrap certificate. When it loses its power all of their sessions end, also one whose registration waits for a hook: the
// hook may then allow what it likes, it is refused.
func TestSessionsOfABootstrapCertificateEndWithItsPower(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*site, device){
		"deactivated": func(s *site, d device) { s.status(d, fleet.Inactive) },
		"revoked":     func(s *site, d device) { s.status(d, fleet.Revoked) },
		"deleted": func(s *site, d device) {
			s.tx(func(tx *store.Tx) error {
				if err := registry.SetCertificateStatus(tx, here, d.id, fleet.Inactive); err != nil {
					return err
				}
				return registry.DeleteCertificate(tx, here, d.id, true)
			})
		},
		"contained": func(s *site, d device) {
			_, err := s.prov.Contain(s.t.Context(), s.ann, d.id, time.Time{})
			check(s.t, err)
		},
		"rolled": func(s *site, d device) {
			_, err := s.prov.Roll(s.t.Context(), s.ann, d.id, time.Minute, csr(s.t, newKey(s.t)))
			check(s.t, err)
			s.pass(time.Minute)
			check(s.t, s.prov.Sweep(s.t.Context(), s.gw.Clock.Now()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.template(provision.NewTemplate{Name: "slow", Hook: &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:ask"}})
			d := s.device(allow("iot:*"))
			other := s.open(s.device(allow("iot:*")), 5).Connected("other")
			five, three := s.open(d, 5).Connected("five"), s.open(d, 4).Connected("three")
			before := s.open(d, 5) // not connected yet

			asking := s.open(d, 5).Connected("asking")
			created := answer(t, exchange(asking, createCSRJSON, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, newKey(t))})), createCSRJSON+"/accepted")
			heard(t, s.requests)
			topic := "$aws/provisioning-templates/slow/provision/json"
			asking.Subscribe(topic+"/accepted", topic+"/rejected")
			asking.Publish(topic, body(t, "json", map[string]any{"certificateOwnershipToken": created["certificateOwnershipToken"], "parameters": map[string]string{"Serial": "1"}}), 1)
			if id := heard(t, s.asked); id != created["certificateId"] {
				t.Fatalf("the hook was asked about %s", id)
			}

			end(s, d)
			for _, c := range []*mqtttest.Client{five, asking} {
				if said := c.WantDisconnect(0x87).Properties.ReasonString; said != "the certificate is not active any more" {
					t.Errorf("it was told %q", said)
				}
			}
			three.WantClosed()
			before.Send(mqtttest.ConnectPacket("before"))
			if ack, open := before.Next(); open && ack.ReasonCode == 0 {
				t.Error("a session without CONNECT is let in")
			}
			other.Quiet()
			s.refusal(s.mqtt, s.config(d))

			s.hook <- struct{}{} // it allows
			if got := heard(t, s.requests); got != "register AccessDenied" {
				t.Errorf("the registration ended as %q", got)
			}
			check(t, s.db.View(t.Context(), func(tx *store.Tx) error {
				if _, err := tx.Thing(here, "lamp-1"); fleet.KindOf(err) != fleet.KindNotFound {
					t.Errorf("the thing was made: %v", err)
				}
				if c, err := tx.Certificate(here, created["certificateId"].(string)); err == nil && c.Status == fleet.Active {
					t.Error("its certificate is active")
				}
				return nil
			}))
		})
	}
}
