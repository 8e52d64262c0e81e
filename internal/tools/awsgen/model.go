package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A model is an AWS service model in the grammar of api-2.json, as far as we use it.
type model struct {
	Metadata struct {
		APIVersion     string
		EndpointPrefix string
		Protocol       string // rest-json, json or query
		SigningName    string
		TargetPrefix   string
		ServiceID      string
		XMLNamespace   string

		// Ours, from the overlay.
		SigningNames   []string // scope names that a signature may carry; the first is the service's own
		ActionPrefix   string   // of IAM actions, where it is not the first signing name
		ValidationCode string   // error code of a violated constraint
	}
	Operations map[string]*operation
	Shapes     map[string]*shape
}

type operation struct {
	Name string
	HTTP struct {
		Method       string
		RequestURI   string
		ResponseCode int
	}
	Input, Output *ioRef
	AuthType      string // "none": unsigned
}

type ioRef struct {
	Shape         string
	ResultWrapper string
}

type shape struct {
	Type      string
	Required  []string
	Members   map[string]*member
	Member    *member // of a list
	Key       *member // of a map
	Value     *member
	Enum      []string
	Min, Max  json.Number
	Pattern   string
	Payload   string
	Exception bool
	Fault     bool
	Error     struct {
		Code           string
		HTTPStatusCode int
	}
	Sensitive bool
	Flattened bool

	TimestampFormat string

	// Ours, from the overlay.
	Secret bool   // the Go type hides its text (fleet.Secret); implies sensitive
	Escape bool   // percent-encoded in answers (IAM's policy documents)
	RE2    string // stands for a pattern that RE2 cannot express
}

type member struct {
	Shape           string
	Location        string
	LocationName    string
	JSONValue       bool
	TimestampFormat string
	Flattened       bool
}

// parseModel reads a model with its overlay laid over it.
func parseModel(source, overlay []byte) (*model, error) {
	var base, over map[string]any
	if err := json.Unmarshal(source, &base); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := json.Unmarshal(overlay, &over); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	if err := checkOverlay(base, over); err != nil {
		return nil, err
	}
	merge(base, over)
	merged, err := json.Marshal(base)
	if err != nil {
		return nil, err
	}
	m := &model{}
	if err := json.Unmarshal(merged, m); err != nil {
		return nil, err
	}
	return m, m.check()
}

// checkOverlay refuses a new shape whose name the model uses already, and a change to a shape that the model has not.
func checkOverlay(base, over map[string]any) error {
	have, _ := base["shapes"].(map[string]any)
	shapes, _ := over["shapes"].(map[string]any)
	for name, s := range shapes {
		fields, _ := s.(map[string]any)
		_, isNew := fields["type"]
		if _, exists := have[name]; exists && isNew {
			return fmt.Errorf("overlay defines shape %s, which the model has already", name)
		} else if !exists && !isNew {
			return fmt.Errorf("overlay changes shape %s, which the model has not", name)
		}
	}
	return nil
}

// merge lays over upon base: objects are merged, null deletes, everything else replaces.
func merge(base, over map[string]any) {
	for k, v := range over {
		b, isObject := base[k].(map[string]any)
		o, both := v.(map[string]any)
		switch {
		case v == nil:
			delete(base, k)
		case isObject && both:
			merge(b, o)
		default:
			base[k] = v
		}
	}
}

// check finds references to shapes that do not exist, which a typing error in an overlay would otherwise leave to the compiler.
func (m *model) check() error {
	refs := func(where string, names ...string) error {
		for _, n := range names {
			if m.Shapes[n] == nil {
				return fmt.Errorf("%s names the unknown shape %q", where, n)
			}
		}
		return nil
	}
	for name, op := range m.Operations {
		for _, io := range []*ioRef{op.Input, op.Output} {
			if io != nil {
				if err := refs("operation "+name, io.Shape); err != nil {
					return err
				}
			}
		}
	}
	for name, s := range m.Shapes {
		for _, r := range slices.Concat(slices.Collect(maps.Values(s.Members)), []*member{s.Member, s.Key, s.Value}) {
			if r != nil {
				if err := refs("shape "+name, r.Shape); err != nil {
					return err
				}
			}
		}
		for _, r := range s.Required {
			if s.Members[r] == nil {
				return fmt.Errorf("shape %s requires %q, which is no member", name, r)
			}
		}
	}
	return nil
}

// goNames decides the Go type of every structure: an operation's input and output are named after it; a structure that is
// used elsewhere too keeps its name, and the operation gets an alias.
func (m *model) goNames() (names map[string]string, aliases map[string]string, err error) {
	uses := map[string]int{}
	for _, s := range m.Shapes {
		for _, r := range slices.Concat(slices.Collect(maps.Values(s.Members)), []*member{s.Member, s.Key, s.Value}) {
			if r != nil {
				uses[r.Shape]++
			}
		}
	}
	for _, op := range m.Operations {
		for _, io := range []*ioRef{op.Input, op.Output} {
			if io != nil {
				uses[io.Shape]++
			}
		}
	}
	names, aliases = map[string]string{}, map[string]string{}
	for _, op := range m.Operations {
		for suffix, io := range map[string]*ioRef{"Input": op.Input, "Output": op.Output} {
			if io == nil {
				continue
			}
			if uses[io.Shape] == 1 {
				names[io.Shape] = op.Name + suffix
			} else {
				aliases[op.Name+suffix] = exported(io.Shape)
			}
		}
	}
	taken := map[string]string{}
	for n, s := range m.Shapes {
		if s.Type != "structure" {
			continue
		}
		if names[n] == "" {
			names[n] = exported(n)
		}
		if other := taken[names[n]]; other != "" {
			return nil, nil, fmt.Errorf("shapes %s and %s would both be named %s", n, other, names[n])
		}
		taken[names[n]] = n
	}
	for a := range aliases {
		if taken[a] != "" {
			return nil, nil, fmt.Errorf("alias %s is the name of a shape", a)
		}
	}
	return names, aliases, nil
}

func exported(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
