package iot

import (
	"context"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestATokenContinuesOnlyItsOwnList(t *testing.T) {
	t.Parallel()
	as := func(account string) context.Context {
		return fleet.WithCaller(t.Context(), &fleet.Caller{Scope: fleet.Scope{Account: account, Region: "us-east-1"}})
	}
	first, err := list(as(mine), nil, nil, "ListThings", "lamp", "")
	must(t, err)
	token := first.Token("thing-25")
	if first.Limit != defaultPage || first.Token("") != nil {
		t.Errorf("first page %+v", first)
	}
	for _, c := range []struct {
		name     string
		ctx      context.Context
		question []string
		valid    bool
	}{
		{"the same question", as(mine), []string{"ListThings", "lamp", ""}, true},
		{"another filter", as(mine), []string{"ListThings", "", "lamp"}, false},
		{"another operation", as(mine), []string{"ListThingTypes", "lamp", ""}, false},
		{"another account", as(other), []string{"ListThings", "lamp", ""}, false},
	} {
		l, err := list(c.ctx, token, nil, c.question...)
		if (err == nil) != c.valid || c.valid && l.After != "thing-25" {
			t.Errorf("%s: %+v, %v", c.name, l, err)
		}
	}
}
