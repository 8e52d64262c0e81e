package wire

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Frontend serves any number of services on one origin. Its fields are set before the first request and not changed after.
type Frontend struct {
	Services []*Service

	// Authenticate says who signed r. body is what was received; svc is whose operation is asked for. It is not called for
	// public operations. Errors are *fleet.Error of kind fleet.KindUnauthenticated with a Code of package sigv4.
	Authenticate func(ctx context.Context, r *http.Request, body []byte, svc *Service) (*fleet.Caller, error)

	// Authorize says whether the caller may. A refusal is a *fleet.Error of kind fleet.KindDenied.
	Authorize func(ctx context.Context, caller *fleet.Caller, a Access) error

	// Admit, if set, may refuse a request before any work is spent on it (budgets; fleet.KindThrottled).
	Admit func(r *http.Request, svc *Service, operation string) error

	// Observe, if set, is told about every answered request.
	Observe func(Event)

	// NotFound, if set, serves what is no operation of any service; otherwise the answer is UnknownOperationException.
	NotFound http.Handler

	Scope   fleet.Scope  // of callers of public operations
	Prefix  string       // path prefix of the whole API, for example "/aws"; cut off before routing
	MaxBody int64        // bytes; 0: 1 MiB
	CORS    CORS         // which origins browsers may come from
	Clock   fleet.Clock  // nil: the system's
	Log     *slog.Logger // nil: slog.Default()

	once   sync.Once
	target map[string]*Service // X-Amz-Target prefix → service
	query  []*Service
	rest   []*Service
}

var _ http.Handler = (*Frontend)(nil)

// An Event is what is known about a request once it is answered.
type Event struct {
	RequestID string
	Service   string // "iot"; empty if no service was found
	Operation string
	Method    string
	Status    int
	Code      string // error code; empty: success
	Kind      fleet.Kind
	Caller    *fleet.Caller
}

// ServeHTTP implements http.Handler.
func (f *Frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {}
