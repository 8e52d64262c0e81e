//go:build unix

package device

import (
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// A child inherits copies of all open files between fork and exec; a lock must not live on in them.
func TestALockEndsEvenWhileChildrenAreBeingStarted(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "lock")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("true").Run()
				}
			}
		})
	}
	for range 2000 {
		unlock, err := lockFile(name)
		if err != nil {
			t.Errorf("the lock that was given back is held: %v", err)
			break
		}
		unlock()
	}
	close(stop)
	wg.Wait()
}
