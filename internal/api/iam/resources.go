package iam

import (
	"context"
	"reflect"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Requests name users, roles and groups without their path and in any case, but policies name ARNs. What the caller's policies
// are asked on is therefore read from the store: the ARN with the path and the spelling under which the entity exists, so that no
// spelling slips past a Deny. What does not exist (yet) has the path "/" or the one that the request gives it.

// facts are condition keys that only the request knows.
type facts = map[string][]string

// entity reads what a request names, or makes what it would be. On and Conditions have no context of their own.
func (a *api) entity(s fleet.Scope, kind, name string) iam.Entity {
	e, err := a.IAM.Entity(context.Background(), s, kind, name)
	if err != nil {
		return iam.Entity{Kind: kind, Name: name, Path: "/"}
	}
	return e
}

// The member by which an operation names its user, role or group.
var member = map[string]string{store.IAMUser: "UserName", store.IAMRole: "RoleName", store.IAMGroup: "GroupName"}

// about says that an operation touches the existing user, role or group that its UserName, RoleName or GroupName names. It
// panics, while the table is made, if the input has no such member.
func about[In, Out any](a *api, kind string, op *wire.Op[In, Out], more ...func(*In) facts) *wire.Op[In, Out] {
	field, ok := reflect.TypeFor[In]().FieldByName(member[kind])
	if !ok || field.Type.Kind() != reflect.String {
		panic("iam: " + reflect.TypeFor[In]().String() + " has no plain " + member[kind])
	}
	find := func(s fleet.Scope, in *In) iam.Entity {
		return a.entity(s, kind, reflect.ValueOf(in).Elem().FieldByIndex(field.Index).String())
	}
	return op.On(func(s fleet.Scope, in *In) []string { return []string{find(s, in).ARN(s)} }).
		Conditions(func(s fleet.Scope, in *In) facts {
			f := resourceTags(find(s, in))
			for _, m := range more {
				for k, v := range m(in) {
					f[k] = v
				}
			}
			return f
		})
}

func aboutUser[In, Out any](a *api, op *wire.Op[In, Out], more ...func(*In) facts) *wire.Op[In, Out] {
	return about(a, store.IAMUser, op, more...)
}

func aboutRole[In, Out any](a *api, op *wire.Op[In, Out], more ...func(*In) facts) *wire.Op[In, Out] {
	return about(a, store.IAMRole, op, more...)
}

func aboutGroup[In, Out any](a *api, op *wire.Op[In, Out], more ...func(*In) facts) *wire.Op[In, Out] {
	return about(a, store.IAMGroup, op, more...)
}

// created is the ARN of what a request makes.
func created(s fleet.Scope, kind, name string, path *string) []string {
	e := iam.Entity{Kind: kind, Name: name, Path: "/"}
	if path != nil {
		e.Path = *path
	}
	return []string{e.ARN(s)}
}

// under is what listings are asked on, as with AWS: the ARN of the path, for example arn:aws:iam::A:user/team/.
func under(s fleet.Scope, kind string, prefix *string) []string {
	if prefix == nil {
		return []string{s.IAM(kind + "/")}
	}
	return []string{s.IAM(kind + *prefix)}
}

func resourceTags(e iam.Entity) facts {
	f := facts{}
	for k, v := range e.Tags {
		f["aws:ResourceTag/"+k], f["iam:ResourceTag/"+k] = []string{v}, []string{v}
	}
	return f
}

// requestTags are the tags that a request brings.
func requestTags(tags []Tag) facts {
	if len(tags) == 0 {
		return nil
	}
	f, keys := facts{}, []string{}
	for _, t := range tags {
		f["aws:RequestTag/"+t.Key], keys = []string{t.Value}, append(keys, t.Key)
	}
	f["aws:TagKeys"] = keys
	return f
}

// bounded adds the boundary that a request sets, which lets administrators delegate the making of bounded users only.
func bounded(f facts, arn *string) facts {
	if arn == nil {
		return f
	}
	if f == nil {
		f = facts{}
	}
	f["iam:PermissionsBoundary"] = []string{*arn}
	return f
}

// provider is the ARN of an OpenID Connect provider as it is spelled in the store.
func (a *api) provider(s fleet.Scope, arn string) []string {
	if name, ok := strings.CutPrefix(arn, s.IAM("oidc-provider/")); ok {
		return []string{a.entity(s, store.IAMOIDC, name).ARN(s)}
	}
	return []string{arn}
}

// issuer is the name that a provider gets from its URL: without scheme and last slash.
func issuer(url string) string { return strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/") }

// self resolves UserName where it may be absent, in which case the caller is meant, and asks the caller's policies: only here
// are both the caller and the request known, so the rows of these operations leave the decision to it.
func (a *api) self(ctx context.Context, action string, name *string) (string, error) {
	c := fleet.CallerFrom(ctx)
	user := wire.Value(name)
	if name == nil {
		if c.Kind != fleet.IAMUser && c.Kind != fleet.UserSession {
			return "", fleet.Invalid("", "", "Must specify userName when calling with non-User credentials").WithCode("ValidationError")
		}
		user = c.Name
	}
	e := a.entity(c.Scope, store.IAMUser, user)
	return user, a.IAM.Authorize(ctx, c, "iam:"+action, []string{e.ARN(c.Scope)}, policyContext(resourceTags(e)))
}

func policyContext(f facts) policy.Context {
	c := policy.Context{}
	for k, v := range f {
		c.Set(k, v...)
	}
	return c
}
