package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/imprint-iot/imprint/internal/client"
)

// This file is the part of `imprint auth init` that says what people may do: roles, permission, and which role the identity pool gives.

// roles makes both roles. Each trusts this identity pool alone, for people of its kind alone, and may do nothing yet.
func (a *authInit) roles(ctx context.Context) (err error) {
	if a.authRole, err = a.role(ctx, a.authRoleName(), "authenticated"); err != nil {
		return err
	}
	a.unauthRole, err = a.role(ctx, a.Name+"-unauthRole", "unauthenticated")
	return err
}

func (a *authInit) authRoleName() string { return a.Name + "-authRole" }

func (a *authInit) iam(ctx context.Context, action string, in map[string]string, out any) error {
	return a.Query(ctx, "iam", iamVersion, action, in, out)
}

type iamRole struct {
	Arn                      string
	AssumeRolePolicyDocument string
}

func (a *authInit) role(ctx context.Context, name, kind string) (arn string, err error) {
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Federated": "cognito-identity.amazonaws.com"},
		"Action": "sts:AssumeRoleWithWebIdentity",
		"Condition": object{"StringEquals": object{"cognito-identity.amazonaws.com:aud": a.app.IdentityPoolID},
			"ForAnyValue:StringLike": object{"cognito-identity.amazonaws.com:amr": kind}}}}
	var out struct {
		Made iamRole `xml:"CreateRoleResult>Role"`
	}
	err = a.iam(ctx, "CreateRole", map[string]string{"RoleName": name, "AssumeRolePolicyDocument": document(trust),
		"Description": "For " + kind + " people of the identity pool " + a.app.IdentityPoolID}, &out)
	if err == nil {
		a.tell("role "+name, "", made)
		return out.Made.Arn, nil
	}
	if client.Code(err) != "EntityAlreadyExists" {
		return "", fmt.Errorf("the role %s: %w", name, err)
	}
	var is struct {
		Role iamRole `xml:"GetRoleResult>Role"`
	}
	if err := a.iam(ctx, "GetRole", map[string]string{"RoleName": name}, &is); err != nil {
		return "", fmt.Errorf("the role %s: %w", name, err)
	}
	if doc, err := url.QueryUnescape(is.Role.AssumeRolePolicyDocument); err != nil || !strings.Contains(doc, a.app.IdentityPoolID) {
		return "", fmt.Errorf("the role %s is there and does not trust the identity pool %s: it belongs to something else; take another --name", name, a.app.IdentityPoolID)
	}
	a.tell("role "+name, "", found)
	return is.Role.Arn, nil
}

// claimsPolicy is the name of the role's inline policy; the walk-through tells people to add one by hand.
const claimsPolicy = "create-provisioning-claim"

// permission lets people who have signed in make claims for the templates and do nothing else. The other role gets nothing ever.
func (a *authInit) permission(ctx context.Context) error {
	in := map[string]string{"RoleName": a.authRoleName(), "PolicyName": claimsPolicy}
	if a.claims != "" {
		in["PolicyDocument"] = a.claims
		if err := a.iam(ctx, "PutRolePolicy", in, nil); err != nil {
			return fmt.Errorf("the permission to make claims: %w", err)
		}
		a.allowed = true
		fmt.Fprintf(a.out, "people who have signed in may make claims for %s, and do nothing else\n", strings.Join(a.Template, ", "))
		return nil
	}
	switch err := a.iam(ctx, "GetRolePolicy", in, nil); {
	case err == nil:
		a.allowed = true
		fmt.Fprintln(a.out, "people who have signed in may make claims as before")
	case client.Code(err) == "NoSuchEntity":
		fmt.Fprintln(a.out, "people who have signed in may do nothing yet")
	default:
		return err
	}
	return nil
}

// assign gives the identity pool its roles, unless it has some: an operator may have chosen others since.
func (a *authInit) assign(ctx context.Context) error {
	in := object{"IdentityPoolId": a.app.IdentityPoolID}
	var is struct{ Roles map[string]string }
	if err := a.ident(ctx, "GetIdentityPoolRoles", in, &is); err != nil {
		return fmt.Errorf("the roles of the identity pool: %w", err)
	}
	if len(is.Roles) > 0 {
		if is.Roles["authenticated"] != a.authRole {
			fmt.Fprintf(a.out, "  the identity pool gives people another role, %s, which stays: what is said above of %s does not count for them\n",
				is.Roles["authenticated"], a.authRoleName())
		}
		return nil
	}
	in["Roles"] = map[string]string{"authenticated": a.authRole, "unauthenticated": a.unauthRole}
	// The role of a group goes before that of everybody who has signed in.
	in["RoleMappings"] = object{a.provider() + ":" + a.app.ClientID: object{"Type": "Token", "AmbiguousRoleResolution": "AuthenticatedRole"}}
	if err := a.ident(ctx, "SetIdentityPoolRoles", in, nil); err != nil {
		return fmt.Errorf("the roles of the identity pool: %w", err)
	}
	return nil
}
