package iot

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// named makes the resource of an operation on one resource: its kind in ARNs and its name in the request (identity spec 4.4).
func named[In any](kind string, name func(*In) string) func(fleet.Scope, *In) []string {
	return func(s fleet.Scope, in *In) []string { return []string{s.IoT(kind, name(in))} }
}

// target is the resource of an operation on a certificate or thing group given by its ARN; Cognito identities have none.
func target[In any](arn func(*In) string) func(fleet.Scope, *In) []string {
	return func(_ fleet.Scope, in *In) []string {
		if t := arn(in); strings.HasPrefix(t, "arn:") {
			return []string{t}
		}
		return nil
	}
}

// both names the resources of a request that takes each by name, by ARN or by both: every one that it mentions.
func both(s fleet.Scope, arns []string, kind string, name, arn *string) []string {
	if name != nil && *name != "" {
		arns = append(arns, s.IoT(kind, *name))
	}
	if arn != nil && *arn != "" && (name == nil || *arn != s.IoT(kind, *name)) {
		arns = append(arns, *arn)
	}
	return arns
}

// tagConditions are the condition keys of a request that sets tags.
func tagConditions(tags []Tag) map[string][]string {
	c := map[string][]string{}
	for _, t := range tagsFrom(tags) {
		c["aws:RequestTag/"+t.Key] = []string{t.Value}
		c["aws:TagKeys"] = append(c["aws:TagKeys"], t.Key)
	}
	return c
}

// tagging makes the conditions of an operation that sets tags.
func tagging[In any](tags func(*In) []Tag) func(fleet.Scope, *In) map[string][]string {
	return func(_ fleet.Scope, in *In) map[string][]string { return tagConditions(tags(in)) }
}
