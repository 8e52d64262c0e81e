package gateway

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"

	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/trace"
)

func TestAFlowLastsFromItsFirstRequestToItsRegistration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // a device that is waited for is so for some seconds
		f := newFlows()
		c, other := &mqtt.Client{ID: "new"}, &mqtt.Client{ID: "other"}
		want := func(when string, waitsFor bool) {
			t.Helper()
			in, any, _, _ := f.waitFor()
			if in(c) != waitsFor || any != waitsFor || in(other) || !waitsFor && len(f.open) > 0 {
				t.Errorf("%s: waits %v, for somebody %v, %d are open", when, in(c), any, len(f.open))
			}
		}
		want("nobody has asked", false)
		f.begin(c)
		want("a request is being served", true)
		f.done(c, trace.Create, true)
		want("the device has its certificate", true)
		f.begin(c)
		f.done(c, trace.Create, false)
		want("a second one was refused", true)
		f.begin(c)
		f.begin(c)
		_, _, _, changed := f.waitFor()
		f.done(c, trace.Register, false)
		want("one of two registrations is being served", true)
		f.done(c, trace.Register, true)
		want("it has registered", false)
		select {
		case <-changed:
		default:
			t.Error("who waits does not hear of the end")
		}

		f.begin(c)
		f.done(c, trace.Create, false)
		want("the request was refused, or nobody heard the answer", false)
		f.begin(c)
		f.done(c, trace.Create, true)
		f.gone(c)
		want("the device has gone", false)
		f.begin(c)
		f.gone(c)
		f.done(c, trace.Create, true)
		want("the device has gone while it was served", false)
		f.begin(c) // a request that was queued when its device went
		f.done(c, trace.Create, false)
		want("nobody is there any more", false)
	})
}

// A server may have to stop while its listeners start.
func TestWhoIsClosedAcceptsNobody(t *testing.T) {
	t.Parallel()
	g := New(newSite(t).gw.Config)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	check(t, g.Close(t.Context()))
	if err := g.ServeMQTT(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it says %v", err)
	}
}
