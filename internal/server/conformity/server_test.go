// Package conformity holds the tests that look at all services of a server at once: what is implemented and what is ignored, which
// docs/compatibility.md shows (coverage_test.go); that whatever is not implemented says so (unimplemented_test.go); and that accounts
// are strangers to each other (accounts_test.go; requests_test.go makes requests of the models).
package conformity

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/server"
)

func TestMain(m *testing.M) {
	function.Main() // Invoke is among the operations
	os.Exit(m.Run())
}

// start runs a server in a folder of its own until the test ends.
func start(t *testing.T, regions ...string) *server.Server {
	t.Helper()
	s, err := server.Start(t.Context(), server.Config{Data: filepath.Join(t.TempDir(), "data"), HTTPSPort: server.AnyPort, MQTTPort: server.AnyPort, KeyPool: -1, KeyWait: time.Minute, Regions: regions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("closing the server: %v", err)
		}
	})
	return s
}
