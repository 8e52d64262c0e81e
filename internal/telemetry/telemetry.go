// Package telemetry sends spans to an OpenTelemetry collector: requests to the API, handshakes, provisioning requests, commits of
// the store. OpenTelemetry and the 145 packages that come with it (four megabytes) are behind the build tag otel: export.go has them,
// none.go stands in where the tag is not set.
//
// Begin with Open. The parts of the service know nothing of this package: they tell of work that is done, as they do for metrics.
package telemetry

import (
	"context"
	"time"
)

// A Span is a piece of work that has just ended.
type Span struct {
	Name       string
	Took       time.Duration
	Failed     string            // why the service failed, in a word; a refusal is no failure
	Attributes map[string]string // words of ours and ids of traces, never a secret or a parameter
}

// A Sender takes spans off the caller's path and sends them in batches. A nil one forgets them.
type Sender interface {
	Send(Span)
	// Close sends what is left until ctx ends.
	Close(ctx context.Context) error
}
