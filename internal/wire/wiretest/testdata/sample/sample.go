// Package sample is what the tests of wiretest scan: a handler that reads some of its input.
package sample

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/imprint-iot/imprint/internal/wire"
)

func Service() *wire.Service {
	m := wire.Model{ID: "Sample", SigningNames: []string{"sample"}, Operations: []wire.Operation{{Name: "Create", Method: "POST", URI: "/{name}"}}}
	return wire.NewService(m, []wire.Row{wire.Do("Create", create).Refuse("Refused")}, nil)
}

func create(ctx context.Context, in *CreateInput) (*CreateOutput, error) {
	in.Written = nil
	if in.Options != nil && wire.Value(in.Options.Fast) {
		return nil, nil
	}
	slices.SortFunc(in.Tags, func(a, b Tag) int { return len(a.Key) - len(b.Key) })
	json.Marshal(in.Stored)
	for _, c := range in.Children {
		_ = c.Name
	}
	_ = func() map[string]string { return in.Attrs }
	return &CreateOutput{Name: in.Name}, nil
}
