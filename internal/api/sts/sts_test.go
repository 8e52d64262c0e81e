package sts

import "testing"

func TestServiceTableFitsModel(t *testing.T) {
	t.Parallel()
	Service(Config{})
}
