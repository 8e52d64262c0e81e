//go:build otel

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Open sends spans to the collector at endpoint, for example http://127.0.0.1:4318, by OTLP over HTTP. Headers, sampling and batches
// are set by the variables of OpenTelemetry's specification (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_BSP_…). A
// collector that is away is no error: spans wait in a bounded queue, and those that find it full are dropped.
func Open(ctx context.Context, endpoint, version string) (Sender, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("give the collector as a URL like http://127.0.0.1:4318; what it wants to know of the sender goes into OTEL_EXPORTER_OTLP_HEADERS")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "imprint"), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &sender{p, p.Tracer("github.com/imprint-iot/imprint")}, nil
}

type sender struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

func (s *sender) Send(work Span) {
	end := time.Now()
	attributes := make([]attribute.KeyValue, 0, len(work.Attributes))
	for k, v := range work.Attributes {
		attributes = append(attributes, attribute.String(k, v))
	}
	_, span := s.tracer.Start(context.Background(), work.Name, trace.WithTimestamp(end.Add(-work.Took)), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attributes...))
	if work.Failed != "" {
		span.SetStatus(codes.Error, work.Failed)
	}
	span.End(trace.WithTimestamp(end))
}

func (s *sender) Close(ctx context.Context) error {
	if err := s.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last spans: %w", err)
	}
	return nil
}
