package iam

import (
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
)

// tagsIn reads tags, whose keys differ by more than case (identity spec 4.3).
func tagsIn(list []Tag) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	tags, folded := make(map[string]string, len(list)), map[string]bool{}
	for _, t := range list {
		f := strings.ToLower(t.Key)
		if folded[f] {
			return nil, fleet.Invalid("", "", "Duplicate tag keys found. Please note that Tag keys are case insensitive.").WithCode("InvalidInput")
		}
		if strings.HasPrefix(f, "aws:") {
			return nil, fleet.Invalid("", "", "The tag key %s begins with aws:, which is reserved.", t.Key).WithCode("InvalidInput")
		}
		folded[f], tags[t.Key] = true, t.Value
	}
	return tags, nil
}

// tagsOut lists tags by key; nil if there are none.
func tagsOut(tags map[string]string) (list []Tag) {
	for k, v := range tags {
		list = append(list, Tag{Key: k, Value: v})
	}
	slices.SortFunc(list, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	return list
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func boundaryOut(arn string) *AttachedPermissionsBoundary {
	if arn == "" {
		return nil
	}
	return &AttachedPermissionsBoundary{PermissionsBoundaryArn: new(arn), PermissionsBoundaryType: new("PermissionsBoundaryPolicy")}
}

// brief and full are how much of an entity an answer shows: as with AWS, lists leave out tags and boundaries.
const (
	brief = false
	full  = true
)

func userOut(s fleet.Scope, e iam.Entity, all bool) *User {
	u := &User{Arn: e.ARN(s), CreateDate: e.Created, Path: e.Path, UserId: e.ID, UserName: e.Name}
	if all {
		u.Tags, u.PermissionsBoundary = tagsOut(e.Tags), boundaryOut(e.Boundary)
	}
	return u
}

func usersOut(s fleet.Scope, list []iam.Entity) []User {
	out := make([]User, 0, len(list))
	for _, e := range list {
		out = append(out, *userOut(s, e, brief))
	}
	return out
}

func groupOut(s fleet.Scope, e iam.Entity) *Group {
	return &Group{Arn: e.ARN(s), CreateDate: e.Created, GroupId: e.ID, GroupName: e.Name, Path: e.Path}
}

func groupsOut(s fleet.Scope, list []iam.Entity) []Group {
	out := make([]Group, 0, len(list))
	for _, e := range list {
		out = append(out, *groupOut(s, e))
	}
	return out
}

func roleOut(s fleet.Scope, e iam.Entity, all bool) *Role {
	r := &Role{Arn: e.ARN(s), AssumeRolePolicyDocument: new(e.Trust), CreateDate: e.Created, Description: text(e.Description),
		MaxSessionDuration: new(e.MaxSession), Path: e.Path, RoleId: e.ID, RoleName: e.Name}
	if all {
		r.Tags, r.PermissionsBoundary = tagsOut(e.Tags), boundaryOut(e.Boundary)
	}
	return r
}
