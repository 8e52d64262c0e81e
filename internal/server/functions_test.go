package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/function"
)

// This test's own program does not begin with function.Main. Started as the builder of a sandbox, it would run all its tests once more.
func TestAProgramThatCannotBuildSandboxesRunsNoFunctions(t *testing.T) {
	t.Parallel()
	if err := sharedServer(t).runner.Available(); !errors.Is(err, function.ErrUnavailable) || !strings.Contains(err.Error(), "function.Main") {
		t.Errorf("it says %v", err)
	}
}
