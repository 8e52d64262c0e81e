//go:build !linux

package keymaker

// A breather does nothing here.
type breather struct{}

func newBreather(Priority, int, int) *breather { return nil }

func (*breather) breathe() {}
