package compat

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A provider makes the calls of Terraform's for one server; its methods are resources that outlive the resources that hang on
// them: these come as what is done between.
type provider struct {
	*testing.T
	admin *sdk
	c     *iot.Client
}

// The calls of Terraform's provider for the aws_iot_… resources of the registry: each is made, read back, changed, read back
// and deleted, in the provider's order and with what it sends, by its code (hashicorp/terraform-provider-aws,
// internal/service/iot), for machines where the provider itself is not to be had. What is read must be what was written, and
// nothing must have changed that was not: else a plan after an apply would not be empty.
func TestTerraformsResourcesOfTheRegistryHaveNoDrift(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	admin := s.adminSDK(t)
	p := provider{t, admin, admin.iot}
	p.thingType(func() {
		p.thing(func() {
			p.groups()
			p.certificate(p.policy)
		})
	})
	p.billingGroup()
	p.roleAlias()
	p.domain()
	p.endpoints()
}

func (p provider) same(what string, got, want any) {
	p.Helper()
	if !reflect.DeepEqual(got, want) {
		p.Errorf("%s is %v, want %v", what, got, want)
	}
}

var redTeam = []iottypes.Tag{{Key: aws.String("team"), Value: aws.String("red")}}

// tagged is asked after every read of what can be tagged.
func (p provider) tagged(arn *string) {
	p.Helper()
	out, err := p.c.ListTagsForResource(p.Context(), &iot.ListTagsForResourceInput{ResourceArn: arn})
	check(p.T, err)
	if len(out.Tags) != 1 || *out.Tags[0].Key != "team" || *out.Tags[0].Value != "red" {
		p.Errorf("%s has the tags %v", *arn, out.Tags)
	}
}

// retagged changes the tags of a resource as the provider does, and back: what is gone is taken away, what is new or different
// is set.
func (p provider) retagged(arn *string) {
	p.Helper()
	ctx, c := p.Context(), p.c
	change := func(gone string, now ...iottypes.Tag) {
		p.Helper()
		_, err := c.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: arn, TagKeys: []string{gone}})
		check(p.T, err)
		_, err = c.TagResource(ctx, &iot.TagResourceInput{ResourceArn: arn, Tags: now})
		check(p.T, err)
		out, err := c.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: arn})
		check(p.T, err)
		p.same("tags", out.Tags, now)
	}
	change("team", iottypes.Tag{Key: aws.String("group"), Value: aws.String("blue")})
	change("group", redTeam...)
}

func attributes(m map[string]string) *iottypes.AttributePayload {
	return &iottypes.AttributePayload{Attributes: m}
}

const (
	tfType  = "lamp"
	tfThing = "lamp-1"
)

// thingType is aws_iot_thing_type: deprecated by a change; deleted after a wait that the provider knows by its words.
func (p provider) thingType(with func()) {
	ctx, c := p.Context(), p.c
	kind := aws.String(tfType)
	_, err := c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: kind, Tags: redTeam,
		ThingTypeProperties: &iottypes.ThingTypeProperties{ThingTypeDescription: aws.String("lamps"), SearchableAttributes: []string{"b", "a"}}})
	check(p.T, err)
	readType := func() *iot.DescribeThingTypeOutput {
		p.Helper()
		out, err := c.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: kind})
		check(p.T, err)
		p.tagged(out.ThingTypeArn)
		slices.Sort(out.ThingTypeProperties.SearchableAttributes) // a set
		p.same("properties", []any{*out.ThingTypeProperties.ThingTypeDescription, out.ThingTypeProperties.SearchableAttributes}, []any{"lamps", []string{"a", "b"}})
		return out
	}
	p.same("deprecated", readType().ThingTypeMetadata.Deprecated, false)

	with()
	deprecate := func(undo bool) {
		p.Helper()
		_, err := c.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: kind, UndoDeprecate: undo})
		check(p.T, err)
		p.same("deprecated", readType().ThingTypeMetadata.Deprecated, !undo)
	}
	deprecate(false)
	deprecate(true)
	deprecate(false)
	p.retagged(readType().ThingTypeArn)
	deprecate(false) // with which a deletion begins, deprecated or not
	_, err = c.DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: kind})
	refused(p.T, err, "InvalidRequestException")
	if !strings.Contains(err.Error(), "Please wait for 5 minutes after deprecation and then retry") {
		p.Errorf("a type that was deprecated just now: %v", err)
	}
}

// thing is aws_iot_thing.
func (p provider) thing(with func()) {
	ctx, c := p.Context(), p.c
	thing, kind := aws.String(tfThing), aws.String(tfType)
	_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: thing, ThingTypeName: kind, AttributePayload: attributes(map[string]string{"a": "1", "b": "2"})})
	check(p.T, err)
	readThing := func(version int64, kind string, want map[string]string) {
		p.Helper()
		out, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: thing})
		check(p.T, err)
		p.same("thing", []any{*out.ThingName, *out.DefaultClientId, aws.ToString(out.ThingTypeName), out.Version, out.Attributes}, []any{"lamp-1", "lamp-1", kind, version, want})
	}
	readThing(1, "lamp", map[string]string{"a": "1", "b": "2"})
	_, err = c.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: thing, AttributePayload: attributes(map[string]string{"a": "3"})})
	check(p.T, err)
	readThing(2, "lamp", map[string]string{"a": "3"})
	_, err = c.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: thing, RemoveThingType: true, AttributePayload: attributes(map[string]string{})})
	check(p.T, err)
	readThing(3, "", map[string]string{})

	with()
	_, err = c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: thing})
	check(p.T, err)
	_, err = c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: thing})
	refused(p.T, err, "ResourceNotFoundException")
}

// groups are aws_iot_thing_group and aws_iot_thing_group_membership.
func (p provider) groups() {
	ctx, c := p.Context(), p.c
	thing := aws.String(tfThing)
	group := func(name, parent string) *string {
		p.Helper()
		in := &iot.CreateThingGroupInput{ThingGroupName: &name, Tags: redTeam, ThingGroupProperties: &iottypes.ThingGroupProperties{ThingGroupDescription: aws.String("x"),
			AttributePayload: attributes(map[string]string{"k": "v"})}}
		if parent != "" {
			in.ParentGroupName = &parent
		}
		out, err := c.CreateThingGroup(ctx, in)
		check(p.T, err)
		return out.ThingGroupArn
	}
	group("house", "")
	hall := group("hall", "house")
	readGroup := func(version int64, text string, want map[string]string) {
		p.Helper()
		out, err := c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("hall")})
		check(p.T, err)
		p.tagged(hall)
		m := out.ThingGroupMetadata
		var has map[string]string
		if p := out.ThingGroupProperties.AttributePayload; p != nil {
			has = p.Attributes
		}
		p.same("group", []any{*out.ThingGroupArn, out.Version, *m.ParentGroupName, *m.RootToParentThingGroups[0].GroupName, len(m.RootToParentThingGroups),
			aws.ToString(out.ThingGroupProperties.ThingGroupDescription), has}, []any{*hall, version, "house", "house", 1, text, want})
	}
	readGroup(1, "x", map[string]string{"k": "v"})
	_, err := c.UpdateThingGroup(ctx, &iot.UpdateThingGroupInput{ThingGroupName: aws.String("hall"), ExpectedVersion: aws.Int64(1),
		ThingGroupProperties: &iottypes.ThingGroupProperties{ThingGroupDescription: aws.String("y"), AttributePayload: attributes(map[string]string{})}})
	check(p.T, err)
	readGroup(2, "y", nil)
	p.retagged(hall)
	_, err = c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: aws.String("hall"), ThingName: thing})
	check(p.T, err)
	in, err := c.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: thing})
	check(p.T, err)
	p.same("membership", *in.ThingGroups[0].GroupName, "hall")

	_, err = c.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingGroupName: aws.String("hall"), ThingName: thing})
	check(p.T, err)
	_, err = c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("house")}) // the provider tries again until its children are gone
	refused(p.T, err, "InvalidRequestException")
	if !strings.Contains(err.Error(), "there are still child groups attached") {
		p.Errorf("a group with children: %v", err)
	}
	for _, name := range []string{"hall", "house"} {
		_, err = c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: &name})
		check(p.T, err)
		_, err = c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: &name})
		refused(p.T, err, "ResourceNotFoundException")
	}
}

// certificate is aws_iot_certificate and aws_iot_thing_principal_attachment.
func (p provider) certificate(with func(arn *string)) {
	ctx, c := p.Context(), p.c
	thing := aws.String(tfThing)
	made, err := c.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(p.T, err)
	readCertificate := func(want iottypes.CertificateStatus) {
		p.Helper()
		out, err := c.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
		check(p.T, err)
		d := out.CertificateDescription
		p.same("certificate", []any{*d.CertificateArn, *d.CertificatePem, d.Status, d.CaCertificateId}, []any{*made.CertificateArn, *made.CertificatePem, want, (*string)(nil)})
	}
	readCertificate("ACTIVE")
	_, err = c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: made.CertificateId, NewStatus: "INACTIVE"})
	check(p.T, err)
	readCertificate("INACTIVE")
	_, err = c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: made.CertificateId, NewStatus: "ACTIVE"})
	check(p.T, err)
	_, err = c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: thing, Principal: made.CertificateArn, ThingPrincipalType: iottypes.ThingPrincipalTypeExclusiveThing})
	check(p.T, err)
	principals, err := c.ListThingPrincipalsV2(ctx, &iot.ListThingPrincipalsV2Input{ThingName: thing})
	check(p.T, err)
	p.same("principal", []any{*principals.ThingPrincipalObjects[0].Principal, principals.ThingPrincipalObjects[0].ThingPrincipalType}, []any{*made.CertificateArn, iottypes.ThingPrincipalTypeExclusiveThing})
	with(made.CertificateArn)
	_, err = c.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: thing, Principal: made.CertificateArn})
	check(p.T, err)
	_, err = c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: made.CertificateId, NewStatus: "INACTIVE"})
	check(p.T, err)
	_, err = c.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: made.CertificateId})
	check(p.T, err)
	_, err = c.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
	refused(p.T, err, "ResourceNotFoundException")
}

// policy is aws_iot_policy, a version for each change, of which the lowest that is not the default goes when there are too
// many, and aws_iot_policy_attachment.
func (p provider) policy(certificate *string) {
	ctx, c := p.Context(), p.c
	policy, document := aws.String("lamps"), func(topic string) *string {
		return aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish"],"Resource":["arn:aws:iot:us-east-1:` + account + `:topic/` + topic + `"]}]}`)
	}
	created, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: policy, PolicyDocument: document("0"), Tags: redTeam})
	check(p.T, err)
	for _, topic := range []string{"1", "2", "3", "4", "5"} {
		change := &iot.CreatePolicyVersionInput{PolicyName: policy, PolicyDocument: document(topic), SetAsDefault: true}
		if _, err = c.CreatePolicyVersion(ctx, change); err != nil {
			refused(p.T, err, "VersionsLimitExceededException")
			versions, err := c.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: policy})
			check(p.T, err)
			var ids []int
			for _, v := range versions.PolicyVersions {
				if n, err := strconv.Atoi(*v.VersionId); err == nil && !v.IsDefaultVersion {
					ids = append(ids, n)
				}
			}
			_, err = c.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: policy, PolicyVersionId: aws.String(strconv.Itoa(slices.Min(ids)))})
			check(p.T, err)
			_, err = c.CreatePolicyVersion(ctx, change)
			check(p.T, err)
		}
		got, err := c.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: policy})
		check(p.T, err)
		p.tagged(created.PolicyArn)
		p.same("document", *got.PolicyDocument, *document(topic))
	}
	p.retagged(created.PolicyArn)
	_, err = c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: policy, Target: certificate})
	check(p.T, err)
	attached, err := c.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: certificate, PageSize: aws.Int32(250), Recursive: false})
	check(p.T, err)
	p.same("attached", *attached.Policies[0].PolicyName, "lamps")

	_, err = c.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: policy}) // the provider tries again until it is detached
	refused(p.T, err, "DeleteConflictException")
	_, err = c.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: policy, Target: certificate})
	check(p.T, err)
	// What is gone already: older versions of the provider know a target that is by these words.
	gone := aws.String((*certificate)[:len(*certificate)-64] + strings.Repeat("0", 64)) // whose hash would that be
	_, err = c.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: policy, Target: gone})
	refused(p.T, err, "InvalidRequestException", "Invalid Target")
	_, err = c.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: gone, PageSize: aws.Int32(250)})
	refused(p.T, err, "ResourceNotFoundException")
	_, err = c.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("gone"), Target: certificate})
	check(p.T, err)
	versions, err := c.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: policy})
	check(p.T, err)
	for _, v := range versions.PolicyVersions {
		if !v.IsDefaultVersion {
			_, err = c.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: policy, PolicyVersionId: v.VersionId})
			check(p.T, err)
		}
	}
	_, err = c.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: policy})
	check(p.T, err)
}

// billingGroup is aws_iot_billing_group.
func (p provider) billingGroup() {
	ctx, c := p.Context(), p.c
	billing := aws.String("cash")
	bill, err := c.CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{BillingGroupName: billing, Tags: redTeam, BillingGroupProperties: &iottypes.BillingGroupProperties{BillingGroupDescription: aws.String("x")}})
	check(p.T, err)
	_, err = c.UpdateBillingGroup(ctx, &iot.UpdateBillingGroupInput{BillingGroupName: billing, ExpectedVersion: aws.Int64(1), BillingGroupProperties: &iottypes.BillingGroupProperties{BillingGroupDescription: aws.String("y")}})
	check(p.T, err)
	billed, err := c.DescribeBillingGroup(ctx, &iot.DescribeBillingGroupInput{BillingGroupName: billing})
	check(p.T, err)
	p.tagged(bill.BillingGroupArn)
	p.retagged(bill.BillingGroupArn)
	p.same("billing group", []any{billed.Version, *billed.BillingGroupProperties.BillingGroupDescription, billed.BillingGroupMetadata.CreationDate != nil}, []any{int64(2), "y", true})

	_, err = c.DeleteBillingGroup(ctx, &iot.DeleteBillingGroupInput{BillingGroupName: billing})
	check(p.T, err)
}

// roleAlias is aws_iot_role_alias.
func (p provider) roleAlias() {
	ctx, c := p.Context(), p.c
	for _, name := range []string{"one", "two"} {
		_, err := p.admin.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"credentials.iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)})
		check(p.T, err)
	}
	alias, role := aws.String("meters"), func(name string) *string { return aws.String("arn:aws:iam::" + account + ":role/" + name) }
	_, err := c.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{RoleAlias: alias, RoleArn: role("one"), CredentialDurationSeconds: aws.Int32(3600), Tags: redTeam})
	check(p.T, err)
	for _, change := range []*iot.UpdateRoleAliasInput{{RoleAlias: alias, CredentialDurationSeconds: aws.Int32(900)}, {RoleAlias: alias, RoleArn: role("two")}} {
		_, err = c.UpdateRoleAlias(ctx, change)
		check(p.T, err)
	}
	aliased, err := c.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: alias})
	check(p.T, err)
	p.tagged(aliased.RoleAliasDescription.RoleAliasArn)
	p.retagged(aliased.RoleAliasDescription.RoleAliasArn)
	p.same("role alias", []any{*aliased.RoleAliasDescription.RoleArn, *aliased.RoleAliasDescription.CredentialDurationSeconds}, []any{*role("two"), int32(900)})

	_, err = c.DeleteRoleAlias(ctx, &iot.DeleteRoleAliasInput{RoleAlias: alias})
	check(p.T, err)
	_, err = c.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: alias})
	refused(p.T, err, "ResourceNotFoundException")
}

// domain is aws_iot_domain_configuration.
func (p provider) domain() {
	ctx, c := p.Context(), p.c
	domain := aws.String("own")
	_, err := c.CreateDomainConfiguration(ctx, &iot.CreateDomainConfigurationInput{DomainConfigurationName: domain, DomainName: aws.String("iot.example.com"), ServiceType: iottypes.ServiceTypeData, Tags: redTeam,
		TlsConfig: &iottypes.TlsConfig{SecurityPolicy: aws.String("IoTSecurityPolicy_TLS13_1_2_2022_10")}})
	check(p.T, err)
	for _, change := range []*iot.UpdateDomainConfigurationInput{{DomainConfigurationStatus: iottypes.DomainConfigurationStatusDisabled},
		{DomainConfigurationStatus: iottypes.DomainConfigurationStatusEnabled, TlsConfig: &iottypes.TlsConfig{SecurityPolicy: aws.String("IoTSecurityPolicy_TLS13_1_3_2022_10")}}} {
		change.DomainConfigurationName = domain
		_, err = c.UpdateDomainConfiguration(ctx, change)
		check(p.T, err)
	}
	named, err := c.DescribeDomainConfiguration(ctx, &iot.DescribeDomainConfigurationInput{DomainConfigurationName: domain})
	check(p.T, err)
	p.tagged(named.DomainConfigurationArn)
	p.retagged(named.DomainConfigurationArn)
	p.same("domain configuration", []any{*named.DomainName, named.DomainType, named.ServiceType, named.DomainConfigurationStatus, *named.TlsConfig.SecurityPolicy, len(named.ServerCertificates)},
		[]any{"iot.example.com", iottypes.DomainTypeCustomerManaged, iottypes.ServiceTypeData, iottypes.DomainConfigurationStatusEnabled, "IoTSecurityPolicy_TLS13_1_3_2022_10", 0})

	_, err = c.UpdateDomainConfiguration(ctx, &iot.UpdateDomainConfigurationInput{DomainConfigurationName: domain, DomainConfigurationStatus: iottypes.DomainConfigurationStatusDisabled})
	check(p.T, err)
	_, err = c.DeleteDomainConfiguration(ctx, &iot.DeleteDomainConfigurationInput{DomainConfigurationName: domain})
	check(p.T, err)
	_, err = c.DescribeDomainConfiguration(ctx, &iot.DescribeDomainConfigurationInput{DomainConfigurationName: domain})
	refused(p.T, err, "ResourceNotFoundException")
}

// endpoints are the data source aws_iot_endpoint.
func (p provider) endpoints() {
	ctx, c := p.Context(), p.c
	for _, kind := range []string{"", "iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"} {
		in := &iot.DescribeEndpointInput{}
		if kind != "" {
			in.EndpointType = &kind
		}
		out, err := c.DescribeEndpoint(ctx, in)
		check(p.T, err)
		if strings.ContainsAny(*out.EndpointAddress, ":/") {
			p.Errorf("the endpoint %s is %s", kind, *out.EndpointAddress)
		}
	}
}
