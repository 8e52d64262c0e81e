package device

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

var epoch = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func atEpoch() time.Time { return epoch }

func newClaim(t testing.TB, c *fakecloud.Cloud) *Claim {
	t.Helper()
	claim, err := ParseClaim(c.Claim(t))
	if err != nil {
		t.Fatal(err)
	}
	return claim
}

// inMemory is a cloud as a service without a network.
type inMemory struct{ *fakecloud.Cloud }

var _ service = inMemory{}

func (m inMemory) open(_ context.Context, claim *Claim, s settings) (session, error) {
	if !m.Alive(claim.ID()) {
		return nil, claimRefused("", errors.New("remote error: tls: expired certificate"))
	}
	return inMemorySession{m.Cloud, claim.ID(), s}, nil
}

func (m inMemory) openAs(_ context.Context, id *Identity, s settings) (session, error) {
	if !m.Accepts(id.CertificateID) {
		return nil, identityRefused("", errors.New("remote error: tls: bad certificate"))
	}
	return inMemorySession{m.Cloud, id.CertificateID, s}, nil
}

func (m inMemory) confirm(_ context.Context, id *Identity, _ settings) error {
	if !m.Accepts(id.CertificateID) {
		return identityRefused("", errors.New("remote error: tls: bad certificate"))
	}
	m.Connect(id.CertificateID, id.ClientID)
	return nil
}

type inMemorySession struct {
	c     *fakecloud.Cloud
	claim string
	s     settings
}

func (m inMemorySession) createFromCSR(_ context.Context, csr string) (issued, error) {
	is, err := m.c.CreateFromCSR(m.claim, csr)
	return issued{is.ID, is.Certificate, is.PrivateKey, is.Token}, rejection(err)
}

func (m inMemorySession) createKeys(context.Context) (issued, error) {
	is, err := m.c.CreateKeys(m.claim)
	return issued{is.ID, is.Certificate, is.PrivateKey, is.Token}, rejection(err)
}

func (m inMemorySession) register(_ context.Context, template, token string, parameters map[string]string) (registered, error) {
	if template != fakecloud.Template {
		return registered{}, errors.New("another template")
	}
	thing, configuration, err := m.c.Register(m.claim, token, parameters)
	return registered{thing, configuration}, rejection(err)
}

func (m inMemorySession) port() int { return m.s.Ports[0] }
func (m inMemorySession) close()    {}

func rejection(err error) error {
	var r *fakecloud.Rejection
	if errors.As(err, &r) {
		return rejected(r.Status, r.Code, r.Message, r.Trace)
	}
	return err
}

// start begins a parallel test with a cloud, its broker and a claim.
func start(t *testing.T) (*fakecloud.Cloud, *fakecloud.Broker, *Claim) {
	t.Helper()
	t.Parallel()
	c := fakecloud.New(t, epoch)
	return c, fakecloud.NewBroker(t, c), newClaim(t, c)
}

// configFor is a Config for a broker, with a store in a folder of its own.
func configFor(t *testing.T, b *fakecloud.Broker, claim *Claim) Config {
	return Config{Dir: t.TempDir() + "/store", Claim: claim, Endpoint: "localhost", Ports: []int{b.Port}, Roots: b.Roots,
		Template: fakecloud.Template, Parameters: fakecloud.Parameters, Now: atEpoch,
		sleep: func(ctx context.Context, _ time.Duration) bool { return ctx.Err() != nil }}
}
