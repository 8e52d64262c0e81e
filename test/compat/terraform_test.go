package compat

import (
	"encoding/json"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentity"
	identitytypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentity/types"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// A resource is one of a Terraform configuration: its attributes evaluated, nested blocks as lists of objects.
type resource struct {
	kind, name string
	attrs      map[string]any // as JSON has them
}

func (r resource) text(name string) *string {
	s, _ := r.attrs[name].(string)
	return &s
}

func (r resource) texts(name string) (list []string) {
	for _, v := range r.attrs[name].([]any) {
		list = append(list, v.(string))
	}
	return list
}

func (r resource) on(name string) bool { return r.attrs[name].(bool) }

// A kind is what the provider does for the resources of a kind: create returns what others may refer to, read the attributes as the
// service tells them.
type kind struct {
	create func(resource) (computed map[string]string)
	read   func(r resource, id string) map[string]any
	remove func(r resource, id string)
}

// jsonText brings a document into a form in which Terraform compares it.
func jsonText(t *testing.T, text string) string {
	t.Helper()
	if strings.HasPrefix(text, "%7B") { // IAM's answers
		var err error
		text, err = url.QueryUnescape(text)
		check(t, err)
	}
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	b, err := json.Marshal(v)
	check(t, err)
	return string(b)
}

func kinds(t *testing.T, a *sdk) map[string]kind {
	ctx := t.Context()
	return map[string]kind{
		"aws_iam_role": {
			func(r resource) map[string]string {
				out, err := a.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: r.text("name"), AssumeRolePolicyDocument: r.text("assume_role_policy"), Path: aws.String("/"), MaxSessionDuration: aws.Int32(3600)})
				check(t, err)
				return map[string]string{"id": *out.Role.RoleName, "arn": *out.Role.Arn}
			},
			func(r resource, id string) map[string]any {
				out, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &id})
				check(t, err)
				_, err = a.iam.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &id})
				check(t, err)
				return map[string]any{"name": *out.Role.RoleName, "assume_role_policy": *out.Role.AssumeRolePolicyDocument}
			},
			func(r resource, id string) {
				_, err := a.iam.ListInstanceProfilesForRole(ctx, &iam.ListInstanceProfilesForRoleInput{RoleName: &id})
				check(t, err)
				_, err = a.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &id})
				check(t, err)
			}},
		"aws_iam_role_policy_attachment": {
			func(r resource) map[string]string {
				_, err := a.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: r.text("role"), PolicyArn: r.text("policy_arn")})
				check(t, err)
				return map[string]string{"id": *r.text("role")}
			},
			func(r resource, id string) map[string]any {
				out, err := a.iam.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &id})
				check(t, err)
				return map[string]any{"role": id, "policy_arn": *out.AttachedPolicies[0].PolicyArn}
			},
			func(r resource, id string) {
				_, err := a.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &id, PolicyArn: r.text("policy_arn")})
				check(t, err)
			}},
		"aws_iam_role_policy": {
			func(r resource) map[string]string {
				_, err := a.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: r.text("role"), PolicyName: r.text("name"), PolicyDocument: r.text("policy")})
				check(t, err)
				return map[string]string{"id": *r.text("role") + ":" + *r.text("name")}
			},
			func(r resource, id string) map[string]any {
				role, name, _ := strings.Cut(id, ":")
				out, err := a.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: &name})
				check(t, err)
				return map[string]any{"name": *out.PolicyName, "role": *out.RoleName, "policy": *out.PolicyDocument}
			},
			func(r resource, id string) {
				_, err := a.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: r.text("role"), PolicyName: r.text("name")})
				check(t, err)
			}},
		"aws_iot_policy": {
			func(r resource) map[string]string {
				out, err := a.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: r.text("name"), PolicyDocument: r.text("policy")})
				check(t, err)
				return map[string]string{"id": *out.PolicyName, "arn": *out.PolicyArn}
			},
			func(r resource, id string) map[string]any {
				out, err := a.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: &id})
				check(t, err)
				_, err = a.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: out.PolicyArn})
				check(t, err)
				return map[string]any{"name": *out.PolicyName, "policy": *out.PolicyDocument}
			},
			func(r resource, id string) {
				_, err := a.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: &id})
				check(t, err)
				_, err = a.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: &id})
				check(t, err)
			}},
		"aws_iot_provisioning_template": {
			func(r resource) map[string]string {
				out, err := a.iot.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{TemplateName: r.text("name"), Description: r.text("description"),
					Enabled: aws.Bool(r.on("enabled")), ProvisioningRoleArn: r.text("provisioning_role_arn"), TemplateBody: r.text("template_body")})
				check(t, err)
				return map[string]string{"id": *out.TemplateName, "arn": *out.TemplateArn}
			},
			func(r resource, id string) map[string]any {
				out, err := a.iot.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: &id})
				check(t, err)
				_, err = a.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: out.TemplateArn})
				check(t, err)
				return map[string]any{"name": *out.TemplateName, "description": *out.Description, "enabled": *out.Enabled, "provisioning_role_arn": *out.ProvisioningRoleArn, "template_body": *out.TemplateBody}
			},
			func(r resource, id string) {
				_, err := a.iot.DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: &id})
				check(t, err)
			}},
		"aws_cognito_user_pool": {
			func(r resource) map[string]string {
				admin := r.attrs["admin_create_user_config"].([]any)[0].(map[string]any)
				out, err := a.pools.CreateUserPool(ctx, &cognitoidentityprovider.CreateUserPoolInput{PoolName: r.text("name"),
					AdminCreateUserConfig:  &idptypes.AdminCreateUserConfigType{AllowAdminCreateUserOnly: admin["allow_admin_create_user_only"].(bool)},
					AutoVerifiedAttributes: []idptypes.VerifiedAttributeType{idptypes.VerifiedAttributeType(r.texts("auto_verified_attributes")[0])}})
				check(t, err)
				return map[string]string{"id": *out.UserPool.Id, "arn": *out.UserPool.Arn}
			},
			func(r resource, id string) map[string]any {
				out, err := a.pools.DescribeUserPool(ctx, &cognitoidentityprovider.DescribeUserPoolInput{UserPoolId: &id})
				check(t, err)
				_, err = a.pools.GetUserPoolMfaConfig(ctx, &cognitoidentityprovider.GetUserPoolMfaConfigInput{UserPoolId: &id})
				check(t, err)
				return map[string]any{"name": *out.UserPool.Name, "auto_verified_attributes": []any{string(out.UserPool.AutoVerifiedAttributes[0])},
					"admin_create_user_config": []any{map[string]any{"allow_admin_create_user_only": out.UserPool.AdminCreateUserConfig.AllowAdminCreateUserOnly}}}
			},
			func(r resource, id string) {
				_, err := a.pools.DeleteUserPool(ctx, &cognitoidentityprovider.DeleteUserPoolInput{UserPoolId: &id})
				check(t, err)
			}},
		"aws_cognito_user_pool_client": {
			func(r resource) map[string]string {
				var flows []idptypes.ExplicitAuthFlowsType
				for _, f := range r.texts("explicit_auth_flows") {
					flows = append(flows, idptypes.ExplicitAuthFlowsType(f))
				}
				out, err := a.pools.CreateUserPoolClient(ctx, &cognitoidentityprovider.CreateUserPoolClientInput{UserPoolId: r.text("user_pool_id"), ClientName: r.text("name"), ExplicitAuthFlows: flows})
				check(t, err)
				return map[string]string{"id": *out.UserPoolClient.ClientId}
			},
			func(r resource, id string) map[string]any {
				out, err := a.pools.DescribeUserPoolClient(ctx, &cognitoidentityprovider.DescribeUserPoolClientInput{UserPoolId: r.text("user_pool_id"), ClientId: &id})
				check(t, err)
				flows := []any{}
				for _, f := range slices.Sorted(slices.Values(out.UserPoolClient.ExplicitAuthFlows)) {
					flows = append(flows, string(f)) // a set
				}
				return map[string]any{"name": *out.UserPoolClient.ClientName, "user_pool_id": *out.UserPoolClient.UserPoolId, "explicit_auth_flows": flows}
			},
			func(r resource, id string) {
				_, err := a.pools.DeleteUserPoolClient(ctx, &cognitoidentityprovider.DeleteUserPoolClientInput{UserPoolId: r.text("user_pool_id"), ClientId: &id})
				check(t, err)
			}},
		"aws_cognito_identity_pool": {
			func(r resource) map[string]string {
				p := r.attrs["cognito_identity_providers"].([]any)[0].(map[string]any)
				out, err := a.identity.CreateIdentityPool(ctx, &cognitoidentity.CreateIdentityPoolInput{IdentityPoolName: r.text("identity_pool_name"),
					AllowUnauthenticatedIdentities: r.on("allow_unauthenticated_identities"), AllowClassicFlow: aws.Bool(false),
					CognitoIdentityProviders: []identitytypes.CognitoIdentityProvider{{ClientId: ptr(p["client_id"].(string)), ProviderName: ptr(p["provider_name"].(string)), ServerSideTokenCheck: aws.Bool(false)}}})
				check(t, err)
				return map[string]string{"id": *out.IdentityPoolId}
			},
			func(r resource, id string) map[string]any {
				out, err := a.identity.DescribeIdentityPool(ctx, &cognitoidentity.DescribeIdentityPoolInput{IdentityPoolId: &id})
				check(t, err)
				p := out.CognitoIdentityProviders[0]
				return map[string]any{"identity_pool_name": *out.IdentityPoolName, "allow_unauthenticated_identities": out.AllowUnauthenticatedIdentities,
					"cognito_identity_providers": []any{map[string]any{"client_id": *p.ClientId, "provider_name": *p.ProviderName}}}
			},
			func(r resource, id string) {
				_, err := a.identity.DeleteIdentityPool(ctx, &cognitoidentity.DeleteIdentityPoolInput{IdentityPoolId: &id})
				check(t, err)
			}},
		"aws_cognito_identity_pool_roles_attachment": {
			func(r resource) map[string]string {
				roles := map[string]string{}
				for k, v := range r.attrs["roles"].(map[string]any) {
					roles[k] = v.(string)
				}
				_, err := a.identity.SetIdentityPoolRoles(ctx, &cognitoidentity.SetIdentityPoolRolesInput{IdentityPoolId: r.text("identity_pool_id"), Roles: roles})
				check(t, err)
				return map[string]string{"id": *r.text("identity_pool_id")}
			},
			func(r resource, id string) map[string]any {
				out, err := a.identity.GetIdentityPoolRoles(ctx, &cognitoidentity.GetIdentityPoolRolesInput{IdentityPoolId: &id})
				check(t, err)
				roles := map[string]any{}
				for k, v := range out.Roles {
					roles[k] = v
				}
				return map[string]any{"identity_pool_id": *out.IdentityPoolId, "roles": roles}
			},
			func(r resource, id string) {
				_, err := a.identity.SetIdentityPoolRoles(ctx, &cognitoidentity.SetIdentityPoolRolesInput{IdentityPoolId: &id, Roles: map[string]string{}})
				check(t, err)
			}},
	}
}

// evaluate returns the attributes of a body in which everything that it refers to is known; ok is false if something is not yet.
func evaluate(t *testing.T, body *hclsyntax.Body, known map[string]map[string]cty.Value) (attrs map[string]any, ok bool) {
	t.Helper()
	scope := &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: map[string]function.Function{"jsonencode": stdlib.JSONEncodeFunc}}
	for kind, byName := range known {
		scope.Variables[kind] = cty.ObjectVal(byName)
	}
	attrs = map[string]any{}
	for name, a := range body.Attributes {
		for _, v := range a.Expr.Variables() {
			if _, ok := known[v.RootName()][v[1].(hcl.TraverseAttr).Name]; !ok {
				return nil, false
			}
		}
		v, diags := a.Expr.Value(scope)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		text, err := ctyjson.Marshal(v, v.Type())
		check(t, err)
		attrs[name] = must[any](t, string(text))
	}
	for _, b := range body.Blocks {
		inner, ok := evaluate(t, b.Body, known)
		if !ok {
			return nil, false
		}
		list, _ := attrs[b.Type].([]any)
		attrs[b.Type] = append(list, inner)
	}
	return attrs, true
}

func TestTheResourcesOfTerraformsPageAreMadeReadAndDeletedAsTheProviderDoes(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	admin := s.adminSDK(t)
	text := strings.ReplaceAll(fileBlocks(document(t, "clients/terraform.md"))["main.tf"], "https://localhost:8443", s.get("AWS_ENDPOINT_URL"))
	file, diags := hclsyntax.ParseConfig([]byte(text), "main.tf", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	_, err := admin.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}) // the provider's first call
	check(t, err)
	of := kinds(t, admin)
	known := map[string]map[string]cty.Value{}
	var order []resource
	ids := map[string]string{}
	left := file.Body.(*hclsyntax.Body).Blocks
	for len(left) > 0 {
		var waiting hclsyntax.Blocks
		for _, b := range left {
			attrs, ok := evaluate(t, b.Body, known)
			if b.Type == "provider" {
				for service, url := range attrs["endpoints"].([]any)[0].(map[string]any) {
					if url != s.get("AWS_ENDPOINT_URL") {
						t.Errorf("the endpoint of %s is %v", service, url)
					}
				}
				continue
			}
			if !ok {
				waiting = append(waiting, b)
				continue
			}
			r := resource{b.Labels[0], b.Labels[1], attrs}
			k, ok := of[r.kind]
			if !ok {
				t.Fatalf("the test does not know %s", r.kind)
			}
			values := map[string]cty.Value{}
			for name, v := range attrs {
				if text, ok := v.(string); ok {
					values[name] = cty.StringVal(text)
				}
			}
			computed := k.create(r)
			for name, v := range computed {
				values[name] = cty.StringVal(v)
			}
			if known[r.kind] == nil {
				known[r.kind] = map[string]cty.Value{}
			}
			known[r.kind][r.name] = cty.ObjectVal(values)
			ids[r.kind+"."+r.name] = computed["id"]
			order = append(order, r)
		}
		if len(waiting) == len(left) {
			t.Fatalf("%s %v refers to something that is never made", waiting[0].Type, waiting[0].Labels)
		}
		left = waiting
	}
	if len(order) < 10 {
		t.Errorf("only %d resources were made", len(order))
	}
	for _, r := range order { // a plan after the apply
		is := of[r.kind].read(r, ids[r.kind+"."+r.name])
		if names := slices.Sorted(maps.Keys(is)); !slices.Equal(names, slices.Sorted(maps.Keys(r.attrs))) {
			t.Errorf("%s.%s: read are %v", r.kind, r.name, names)
		}
		for name, v := range is {
			want := r.attrs[name]
			if text, ok := v.(string); ok {
				v, want = jsonText(t, text), jsonText(t, want.(string))
			}
			if !reflect.DeepEqual(v, want) {
				t.Errorf("%s.%s.%s is %v, want %v", r.kind, r.name, name, v, want)
			}
		}
	}
	for _, r := range slices.Backward(order) {
		of[r.kind].remove(r, ids[r.kind+"."+r.name])
	}
}
