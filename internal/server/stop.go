package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// lastWord is how long Close takes, whatever ctx says, to tell MQTT clients that the server is going. While ctx lasts it takes longer:
// a client that neither reads nor closes is given up by package mqtt after some seconds.
const lastWord = 2 * time.Second

// outlive returns a context that ends when ctx has ended and d has passed since.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(d, end)
		context.AfterFunc(longer, func() { t.Stop() })
	})
	return longer, func() { stop(); end() }
}

// Close ends the service in order: it is not ready any more and accepts nobody, requests and provisioning flows in work are
// finished until ctx ends, then MQTT clients are told to go, and the store is closed. What is still in work when ctx ends is cut.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	s.stopping.Store(true)
	if s.stop != nil {
		s.stop()
	}
	for _, l := range []net.Listener{s.ports.mqtt, s.ports.https, s.ports.devices} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if s.handled != nil { // a start that has failed: what is made for the handler has to be ended, too
		s.handled()
	}
	var flows sync.WaitGroup
	if s.gateway != nil {
		flows.Go(func() { s.gateway.Drain(ctx) })
	}
	errs = append(errs, shutDown(ctx, s.http))
	flows.Wait()
	if s.rules != nil { // whoever publishes from here on is heard at QoS 1 after the next start
		resting, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
		s.rules.Close(resting)
		cancel()
	}
	if s.gateway != nil {
		telling, cancel := outlive(ctx, lastWord)
		defer cancel()
		errs = append(errs, s.gateway.Close(telling))
	}
	for _, h := range []*http.Server{s.scrape, s.admin} { // those tell how the end goes on
		errs = append(errs, shutDown(ctx, h))
	}
	if s.admin != nil {
		errs = append(errs, s.removeAdminSocket())
	}
	if s.runner != nil {
		s.runner.Close()
	}
	errs = append(errs, shutDown(ctx, s.inner)) // whoever called has ended
	s.wg.Wait()
	if s.userpools != nil {
		s.userpools.Close()
	}
	if s.keys != nil {
		s.keys.Close()
	}
	for _, m := range s.makers {
		m.Close()
	}
	if s.helper != nil {
		errs = append(errs, s.helper.Close())
	}
	if s.logs != nil {
		s.logs.Close()
	}
	if s.recorder != nil {
		s.recorder.Close()
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.spans != nil {
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
		defer cancel()
		if err := s.spans.Close(sending); err != nil {
			s.log.Warn("stopping", "error", err) // nothing of ours is lost
		}
	}
	return errors.Join(append(errs, s.unlock())...)
}

// shutDown lets requests finish until ctx ends and cuts the others.
func shutDown(ctx context.Context, h *http.Server) error {
	if h == nil {
		return nil
	}
	err := h.Shutdown(ctx)
	if err == nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return errors.Join(fmt.Errorf("requests that were not finished in time are cut: %w", err), h.Close())
}
