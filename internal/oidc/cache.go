package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/imprint-iot/imprint/internal/egress"
)

// How long what a provider publishes counts.
const (
	freshMetadata = time.Hour
	freshKeys     = 15 * time.Minute // and so how long a key counts that the provider has withdrawn
	staleAfter    = 2 * time.Hour    // what is kept counts no longer, even if the provider can't be reached
	pause         = 5 * time.Second  // between two questions to a provider about the same document, whoever asks and whatever came of it
	retry         = time.Minute      // for one that did not answer, while there is something to go on with
	fetchTimeout  = 10 * time.Second
	maxDocument   = 256 << 10
	maxSources    = 1000 // providers kept; administrators name them, so this is far away
)

type cache struct {
	mu      sync.Mutex
	sources map[string]*source
}

// source is a provider and what it has published.
type source struct {
	client   *egress.Client
	metadata kept[*Metadata]
	keys     kept[[]jose.JSONWebKey]
}

func (v *Verifier) source(p Provider) (*source, error) {
	if err := CheckIssuer(p.Issuer); err != nil {
		return nil, err
	}
	key := strings.Join(append([]string{strings.TrimSuffix(p.Issuer, "/"), p.KeysURL}, p.Thumbprints...), "\n")
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	if s := v.cache.sources[key]; s != nil {
		return s, nil
	}
	client, err := egress.WithThumbprints(v.http, p.Thumbprints)
	if err != nil {
		return nil, &Error{Misconfigured, "the thumbprints of " + p.Issuer + " cannot be used", err}
	}
	if len(v.cache.sources) >= maxSources {
		for _, s := range v.cache.sources {
			s.client.CloseIdleConnections()
		}
		v.cache.sources = nil
	}
	if v.cache.sources == nil {
		v.cache.sources = map[string]*source{}
	}
	s := &source{client: client}
	v.cache.sources[key] = s
	return s, nil
}

// Discover returns what a provider says of itself, from the cache while it is fresh.
func (v *Verifier) Discover(ctx context.Context, p Provider) (*Metadata, error) {
	s, err := v.source(p)
	if err != nil {
		return nil, err
	}
	m, _, err := s.metadata.get(ctx, v.clock.Now, freshMetadata, time.Time{}, func(ctx context.Context) (*Metadata, error) {
		body, err := fetch(ctx, s.client, discoveryURL(p.Issuer), "the discovery document of "+p.Issuer)
		if err != nil {
			return nil, err
		}
		return parseMetadata(body, p.Issuer)
	})
	return m, err
}

// keys returns a provider's keys and when they were asked for. With seen, the time of a set that did not do, it asks for a newer one
// if it may; the time tells whether there is one.
func (v *Verifier) keys(ctx context.Context, p Provider, seen time.Time) ([]jose.JSONWebKey, time.Time, error) {
	s, err := v.source(p)
	if err != nil {
		return nil, time.Time{}, err
	}
	return s.keys.get(ctx, v.clock.Now, freshKeys, seen, func(ctx context.Context) ([]jose.JSONWebKey, error) {
		from := p.KeysURL
		if from == "" {
			m, err := v.Discover(ctx, p)
			if err != nil {
				return nil, err
			}
			from = m.KeysURL
		}
		body, err := fetch(ctx, s.client, from, "the keys of "+p.Issuer)
		if err != nil {
			return nil, err
		}
		return parseKeys(body, p.Issuer)
	})
}

func fetch(ctx context.Context, client *egress.Client, from, what string) ([]byte, error) {
	unreachable := func(err error) error { return &Error{Unreachable, "could not get " + what, err} }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, unreachable(err)
	}
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, unreachable(fmt.Errorf("%s answered %s", from, res.Status))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	if err == nil && len(body) > maxDocument {
		err = fmt.Errorf("%s is larger than %d bytes", from, maxDocument)
	}
	if err != nil {
		return nil, unreachable(err)
	}
	return body, nil
}

// kept is a document of a provider: fetched once for everybody who waits for it.
type kept[T any] struct {
	mu     sync.Mutex
	value  T
	at     time.Time     // when value was asked for; zero: there is none
	asked  time.Time     // when the last fetch began
	err    error         // what came of it
	flight chan struct{} // closed when the fetch under way ends; nil: none is
}

// get returns the value and its time: one younger than fresh and newer than seen, fetched if need be. If that can't be had, because
// the fetch failed or the last one was a moment ago, it is the one that there is, until it is stale.
func (k *kept[T]) get(ctx context.Context, clock func() time.Time, fresh time.Duration, seen time.Time, fetch func(context.Context) (T, error)) (T, time.Time, error) {
	k.mu.Lock()
	now := clock()
	if !k.at.IsZero() && now.Sub(k.at) < fresh && k.at.After(seen) {
		defer k.mu.Unlock()
		return k.value, k.at, nil
	}
	if k.flight == nil && (k.asked.IsZero() || now.Sub(k.asked) >= k.pause()) {
		k.asked, k.flight = now, make(chan struct{})
		go k.fly(context.WithoutCancel(ctx), now, fetch)
	}
	flight := k.flight
	k.mu.Unlock()
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			var none T
			return none, time.Time{}, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.at.IsZero() && now.Sub(k.at) < staleAfter {
		return k.value, k.at, nil
	}
	var none T
	if k.err != nil {
		return none, time.Time{}, k.err
	}
	return none, time.Time{}, &Error{Unreachable, "what the provider publishes is out of date", errors.New("it was asked a moment ago")}
}

// pause is how long the provider is not asked again.
func (k *kept[T]) pause() time.Duration {
	if k.err != nil && !k.at.IsZero() {
		return retry
	}
	return pause
}

// fly fetches. Whoever began it may be gone by the time that it ends.
func (k *kept[T]) fly(ctx context.Context, now time.Time, fetch func(context.Context) (T, error)) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	v, err := fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err = err; err == nil {
		k.value, k.at = v, now
	}
	close(k.flight)
	k.flight = nil
}
