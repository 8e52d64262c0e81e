package store

import (
	"github.com/imprint-iot/imprint/internal/fleet"
)

// trailJSON is a fleet.Trail as it is stored: most have one member.
type trailJSON struct {
	Thing    string      `json:"t,omitempty"`
	Policies []string    `json:"p,omitempty"`
	Before   *beforeJSON `json:"b,omitempty"`
}

type beforeJSON struct {
	Version    int64             `json:"v,omitempty"`
	Type       string            `json:"y,omitempty"`
	Attributes map[string]string `json:"a,omitempty"`
	Joined     []string          `json:"j,omitempty"`
	Left       []string          `json:"l,omitempty"`
	Billing    string            `json:"g,omitempty"`
}

func writeTrail(t fleet.Trail) string {
	return toJSON(trailJSON{t.ThingID, t.Policies, (*beforeJSON)(t.Before)})
}

func readTrail(text string, t *fleet.Trail) error {
	var stored trailJSON
	if err := fromJSON(text, &stored); err != nil {
		return err
	}
	*t = fleet.Trail{ThingID: stored.Thing, Policies: stored.Policies, Before: (*fleet.ThingBefore)(stored.Before)}
	return nil
}
