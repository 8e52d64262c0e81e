//go:build !otel

package server

import "testing"

func TestABuildWithoutOpenTelemetrySaysSo(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.OTLPEndpoint = "http://127.0.0.1:4318"
	_, err := Start(t.Context(), cfg)
	contains(t, err, "otlp-endpoint: this binary was built without OpenTelemetry", "make build TAGS=otel")
}
