package iam

import (
	"context"
	"maps"
	"net/url"
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
			return with(resourceFacts(find(s, in)), in, more)
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

// resourceFacts are what policies may ask about an existing entity: its tags and its boundary.
func resourceFacts(e iam.Entity) facts {
	f := facts{}
	if e.Boundary != "" {
		f["iam:PermissionsBoundary"] = []string{e.Boundary}
	}
	for k, v := range e.Tags {
		f["aws:ResourceTag/"+k], f["iam:ResourceTag/"+k] = []string{v}, []string{v}
	}
	return f
}

// with adds what else a request tells.
func with[In any](f facts, in *In, more []func(*In) facts) facts {
	for _, m := range more {
		maps.Copy(f, m(in))
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

// aboutProvider says that an operation touches the OpenID Connect provider whose ARN it names, as that is spelled in the store.
func aboutProvider[In, Out any](a *api, op *wire.Op[In, Out], arn func(*In) string, more ...func(*In) facts) *wire.Op[In, Out] {
	find := func(s fleet.Scope, in *In) (iam.Entity, bool) {
		name, ok := strings.CutPrefix(arn(in), s.IAM("oidc-provider/"))
		return a.entity(s, store.IAMOIDC, name), ok
	}
	return op.On(func(s fleet.Scope, in *In) []string {
		if e, ok := find(s, in); ok {
			return []string{e.ARN(s)}
		}
		return []string{arn(in)}
	}).Conditions(func(s fleet.Scope, in *In) facts {
		e, _ := find(s, in)
		return with(resourceFacts(e), in, more)
	})
}

// aboutPolicy says that an operation touches the managed policy whose ARN it names. There is one spelling of it: the rules know
// no other.
func aboutPolicy[In, Out any](a *api, op *wire.Op[In, Out], arn func(*In) string, more ...func(*In) facts) *wire.Op[In, Out] {
	return op.On(func(_ fleet.Scope, in *In) []string { return []string{arn(in)} }).
		Conditions(func(s fleet.Scope, in *In) facts {
			m, err := a.IAM.Policy(context.Background(), s, arn(in))
			if err != nil {
				m.Entity = iam.Entity{}
			}
			return with(resourceFacts(m.Entity), in, more)
		})
}

// issuer is the name that a provider gets from its URL. What is no URL the rules will refuse.
func issuer(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	return strings.TrimSuffix(u.Host+u.Path, "/")
}

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
	return user, a.IAM.Authorize(ctx, c, "iam:"+action, []string{e.ARN(c.Scope)}, policyContext(resourceFacts(e)))
}

func policyContext(f facts) policy.Context {
	c := policy.Context{}
	for k, v := range f {
		c.Set(k, v...)
	}
	return c
}
