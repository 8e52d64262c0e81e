package conformity

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// A tenant is an account with one of everything in it.
type tenant struct {
	*site
	admin   sigv4.Credentials
	account string
	label   string // of nobody else: the account, and its region if it has several
	private string // stands in everything that the tenant keeps, and in no request that a stranger makes
	values  values // names, ids and ARNs of what it has

	device  tls.Certificate
	session sigv4.Credentials
	refresh string // token of the person in the pool
}

// do is a call that must succeed.
func (a *tenant) do(service, operation string, in object) answer {
	a.t.Helper()
	out := a.call(a.admin, service, operation, in)
	if !out.ok() {
		a.t.Fatalf("%s %s: %v", service, operation, out)
	}
	return out
}

// dig takes a member out of a JSON answer.
func (a answer) dig(path ...string) string {
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		return ""
	}
	for _, name := range path {
		m, _ := v.(object)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

// between takes an element out of an XML answer.
func (a answer) between(element string) string {
	_, rest, _ := strings.Cut(a.body, "<"+element+">")
	value, _, _ := strings.Cut(rest, "</"+element+">")
	return value
}

const (
	password  = "Correct-Horse-7!"
	trustIoT  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	allowIoT  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	emptyBody = `{"Resources":{}}`
	fullBody  = `{"Parameters":{"S":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
		"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"S"}}}},"DeviceConfiguration":{"k":"%s"}}`
	anything = "arn:aws:iot:us-east-1:999999999999:topic/x"
)

// newTenant fills an account. Every account gets the same names.
func newTenant(s *site, admin sigv4.Credentials, account string) *tenant {
	s.t.Helper()
	a := visitor(s, admin, account, account)
	a.furnishIAM()
	a.furnish()
	return a
}

// visitor is a tenant with nothing.
func visitor(s *site, admin sigv4.Credentials, account, label string) *tenant {
	return &tenant{site: s, admin: admin, account: account, label: label, private: "privateof" + label, values: values{"AccountId": account}}
}

// furnish fills a region of the account.
func (a *tenant) furnish() {
	a.t.Helper()
	a.furnishRegistry()
	a.furnishCA()
	a.furnishUserPool()
	a.furnishIdentityPool()
	a.furnishHooks()
	a.furnishFunctions()
}

func (a *tenant) arn(service, resource string) string {
	region := a.region
	if service == "iam" {
		region = ""
	}
	return "arn:aws:" + service + ":" + region + ":" + a.account + ":" + resource
}

func (a *tenant) furnishIAM() {
	tags := []any{object{"Key": "of", "Value": a.private}}
	policy := strings.Replace(allowIoT, `"Effect"`, `"Sid":"`+a.private+`","Effect"`, 1)
	a.do("iam", "CreateUser", object{"UserName": "alice", "Tags": tags})
	key := a.do("iam", "CreateAccessKey", object{"UserName": "alice"})
	a.do("iam", "CreateRole", object{"RoleName": "keeper", "AssumeRolePolicyDocument": trustIoT, "Description": a.private, "Tags": tags})
	a.do("iam", "CreateRole", object{"RoleName": "worker", "AssumeRolePolicyDocument": strings.Replace(trustIoT, "iot", "lambda", 1)})
	a.do("iam", "CreateGroup", object{"GroupName": "people"})
	a.do("iam", "AddUserToGroup", object{"GroupName": "people", "UserName": "alice"})
	a.do("iam", "CreatePolicy", object{"PolicyName": "managed", "PolicyDocument": policy, "Description": a.private})
	managed := a.arn("iam", "policy/managed")
	a.do("iam", "CreatePolicyVersion", object{"PolicyArn": managed, "PolicyDocument": policy})
	for kind, name := range map[string]string{"User": "alice", "Role": "keeper", "Group": "people"} {
		a.do("iam", "Put"+kind+"Policy", object{kind + "Name": name, "PolicyName": "inline", "PolicyDocument": policy})
		a.do("iam", "Attach"+kind+"Policy", object{kind + "Name": name, "PolicyArn": managed})
	}
	a.do("iam", "PutUserPermissionsBoundary", object{"UserName": "alice", "PermissionsBoundary": managed})
	a.do("iam", "CreateOpenIDConnectProvider", object{"Url": "https://idp.example.com", "ClientIDList": []any{a.private}, "ThumbprintList": []any{strings.Repeat("a", 40)}})
	session := a.do("sts", "GetSessionToken", object{})
	a.session = sigv4.Credentials{AccessKeyID: session.between("AccessKeyId"), Secret: fleet.Secret(session.between("SecretAccessKey")), Token: fleet.Secret(session.between("SessionToken"))}
	maps.Copy(a.values, values{
		"UserName": "alice", "RoleName": "keeper", "PolicyArn": managed, "VersionId": "v2", "PermissionsBoundary": managed,
		"AccessKeyId": key.between("AccessKeyId"), "Status": "Inactive", "AssumeRolePolicyDocument": trustIoT, "RoleArn": a.arn("iam", "role/keeper"),
		"PolicySourceArn": a.arn("iam", "user/alice"), "ActionNames": []any{"iot:Connect"}, "PolicyInputList": []any{policy},
		"OpenIDConnectProviderArn": a.arn("iam", "oidc-provider/idp.example.com"), "Url": "https://idp.example.com", "ClientID": "client",
		"ThumbprintList": []any{strings.Repeat("b", 40)}, "UpdateAssumeRolePolicy.PolicyDocument": trustIoT, "PolicyDocument": allowIoT,
		"TagRole.Tags": []any{object{"Key": "new", "Value": "x"}}, "TagUser.Tags": []any{object{"Key": "new", "Value": "x"}}, "TagKeys": []any{"of"},
		"NewUserName": "bob",
	})
}

func (a *tenant) furnishRegistry() {
	tags := []any{object{"Key": "of", "Value": a.private}}
	a.do("iot", "CreateThingType", object{"thingTypeName": "lights", "thingTypeProperties": object{"thingTypeDescription": a.private}, "tags": tags})
	a.do("iot", "CreateThingGroup", object{"thingGroupName": "garden", "thingGroupProperties": object{"thingGroupDescription": a.private}, "tags": tags})
	a.do("iot", "CreateBillingGroup", object{"billingGroupName": "bulbs", "billingGroupProperties": object{"billingGroupDescription": a.private}, "tags": tags})
	a.do("iot", "CreateThing", object{"thingName": "lamp", "thingTypeName": "lights", "billingGroupName": "bulbs",
		"attributePayload": object{"attributes": object{"of": a.private}}})
	a.do("iot", "AddThingToThingGroup", object{"thingName": "lamp", "thingGroupName": "garden"})
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},{"Effect":"Deny","Action":"iot:Publish","Resource":%q}]}`, a.arn("iot", "topic/"+a.private))
	a.do("iot", "CreatePolicy", object{"policyName": "lamp-policy", "policyDocument": policy, "tags": tags})
	a.do("iot", "CreatePolicyVersion", object{"policyName": "lamp-policy", "policyDocument": policy, "setAsDefault": true})
	made := a.do("iot", "CreateKeysAndCertificate", object{"setAsActive": "true"})
	certificate := made.dig("certificateArn")
	a.do("iot", "AttachThingPrincipal", object{"thingName": "lamp", "x-amzn-principal": certificate})
	a.do("iot", "AttachPolicy", object{"policyName": "lamp-policy", "target": certificate})
	a.do("iot", "AttachPolicy", object{"policyName": "lamp-policy", "target": a.arn("iot", "thinggroup/garden")})
	body := fmt.Sprintf(fullBody, a.private)
	a.do("iot", "CreateProvisioningTemplate", object{"templateName": "lamps", "templateBody": body, "enabled": true, "description": a.private,
		"provisioningRoleArn": a.arn("iam", "role/keeper"), "tags": tags})
	a.do("iot", "CreateProvisioningTemplateVersion", object{"templateName": "lamps", "templateBody": body})
	a.do("iot", "CreateProvisioningClaim", object{"templateName": "lamps"})
	a.do("iot", "CreateRoleAlias", object{"roleAlias": "keeper", "roleArn": a.arn("iam", "role/keeper"), "tags": tags})
	a.do("iot", "CreateDomainConfiguration", object{"domainConfigurationName": "lamp", "domainName": "iot" + a.label + ".example.com", "tags": tags})
	offered := a.do("iot", "CreateKeysAndCertificate", object{}).dig("certificateId")
	a.do("iot", "TransferCertificate", object{"certificateId": offered, "targetAwsAccount": "999999999999", "transferMessage": a.private})
	a.do("iot", "SetV2LoggingOptions", object{"roleArn": a.arn("iam", "role/keeper"), "defaultLogLevel": "ERROR"})
	a.do("iot", "UpdateEventConfigurations", object{"eventConfigurations": object{"THING": object{"Enabled": true}}})
	a.do("iotdata", "Publish", object{"topic": "lamps/kept", "payload": a.private, "retain": true})
	function := object{"lambda": object{"functionArn": a.arn("lambda", "function:lampcheck")}}
	payload := object{"sql": "SELECT * FROM '" + a.private + "'", "actions": []any{function}}
	a.do("iot", "CreateTopicRule", object{"ruleName": "lamprule", "topicRulePayload": payload})
	task := a.do("iot", "StartThingRegistrationTask", object{"templateBody": body, "inputFileBucket": "nobucket", "inputFileKey": a.private, "roleArn": a.arn("iam", "role/keeper")}).dig("taskId")
	for a.do("iot", "DescribeThingRegistrationTask", object{"taskId": task}).dig("status") == "InProgress" { // it fails: its input is not there
		must(a.t, a.t.Context().Err())
	}
	to := object{"httpUrlConfiguration": object{"confirmationUrl": "https://127.0.0.1:1/" + a.private}} // which rules may not call
	destination := a.do("iot", "CreateTopicRuleDestination", object{"destinationConfiguration": to}).dig("topicRuleDestination", "arn")
	for a.do("iot", "GetTopicRuleDestination", object{"arn": destination}).dig("topicRuleDestination", "status") != "ERROR" {
		must(a.t, a.t.Context().Err())
	}
	pair, err := tls.X509KeyPair([]byte(made.dig("certificatePem")), []byte(made.dig("keyPair", "PrivateKey")))
	must(a.t, err)
	a.device = pair
	maps.Copy(a.values, values{
		"ThingName": "lamp", "ThingArn": a.arn("iot", "thing/lamp"), "ThingTypeName": "lights",
		"ThingGroupName": "garden", "ThingGroupArn": a.arn("iot", "thinggroup/garden"), "ParentGroup": "garden", "ParentGroupName": "garden",
		"BillingGroupName": "bulbs", "BillingGroupArn": a.arn("iot", "billinggroup/bulbs"), "ListThings.ThingTypeName": absent{},
		"PolicyVersionId": "2", "CertificateId": made.dig("certificateId"), "ClaimId": made.dig("certificateId"),
		"CertificatePem": made.dig("certificatePem"), "RegisterCertificateWithoutCA.Status": "ACTIVE", "NewStatus": "INACTIVE", "Principal": certificate, "Target": certificate,
		"TemplateName": "lamps", "TemplateNames": []any{"lamps"}, "TemplateBody": emptyBody, "ProvisioningRoleArn": a.arn("iam", "role/keeper"),
		"DescribeProvisioningTemplateVersion.VersionId": 2, "DeleteProvisioningTemplateVersion.VersionId": 2, "DefaultVersionId": 2,
		"UpdateProvisioningTemplate.Description": "changed", "UpdateThing.AttributePayload": object{"attributes": object{"new": "x"}},
		"ThingGroupsToAdd": []any{"garden"}, "ForceDelete": true, "ResourceArn": a.arn("iot", "thinggroup/garden"), "Tags": []any{object{"Key": "new", "Value": "x"}},
		"AuthInfos": []any{object{"actionType": "PUBLISH", "resources": []any{anything}}}, "CertificateSigningRequest": newCSR(a.t),
		"ThingTypeProperties": object{"thingTypeDescription": "changed"}, "UpdateThingGroup.ThingGroupProperties": object{"thingGroupDescription": "changed"},
		"BillingGroupProperties": object{"billingGroupDescription": "changed"}, "CreateBillingGroup.BillingGroupProperties": absent{}, "CreateThingType.ThingTypeProperties": absent{},
		"DomainConfigurationName": "lamp", "DomainConfigurationStatus": "DISABLED", "DomainName": "iot" + a.label + ".example.com", "ListDomainConfigurations.ServiceType": "DATA",
		"RoleAlias": "keeper", "TargetAwsAccount": "999999999999", "CancelCertificateTransfer.CertificateId": offered,
		"Arn": destination, "UpdateTopicRuleDestination.Status": "DISABLED", "DestinationConfiguration": object{"httpUrlConfiguration": object{"confirmationUrl": "https://127.0.0.1:1/x"}},
		"TaskId": task, "ReportType": "RESULTS", "ListThingRegistrationTasks.Status": absent{},
		"RuleName": "lamprule", "TopicRulePayload": object{"sql": "SELECT * FROM 'changed'", "actions": []any{}}, "ListTopicRules.Topic": absent{}, "ListTopicRules.RuleDisabled": absent{},
		"EventConfigurations": object{"THING": object{"Enabled": false}}, "Topic": topic, "GetRetainedMessage.Topic": "lamps/kept",
	})
}

// furnishCA gives the tenant a CA of its own and a certificate that it has signed.
func (a *tenant) furnishCA() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	sign := func(c, by *x509.Certificate) string {
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), key)
		must(a.t, err)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "Plant of " + a.label}, IsCA: true, BasicConstraintsValid: true}
	text := sign(ca, ca)
	code := a.do("iot", "GetRegistrationCode", object{}).dig("registrationCode")
	made := a.do("iot", "RegisterCACertificate", object{"caCertificate": text, "verificationCertificate": sign(&x509.Certificate{Subject: pkix.Name{CommonName: code}}, ca),
		"setAsActive": true, "allowAutoRegistration": true, "registrationConfig": object{"templateBody": emptyBody, "roleArn": a.arn("iam", "role/keeper")},
		"tags": []any{object{"Key": "of", "Value": a.private}}})
	leaf := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "lamp"}}, ca)
	a.do("iot", "RegisterCertificate", object{"certificatePem": leaf})
	id := made.dig("certificateId")
	maps.Copy(a.values, values{"CaCertificateId": id, "DescribeCACertificate.CertificateId": id, "UpdateCACertificate.CertificateId": id, "DeleteCACertificate.CertificateId": id,
		"NewAutoRegistrationStatus": "DISABLE", "RegisterCACertificate.CaCertificate": text, "RegisterCACertificate.CertificateMode": "SNI_ONLY", "RegisterCertificate.CertificatePem": leaf,
		"RegisterCertificate.Status": "ACTIVE"})
}

func (a *tenant) furnishHooks() {
	a.do("imprint", "CreateTable", object{"name": "serials"})
	a.do("imprint", "PutTableKeys", object{"name": "serials", "keys": []any{a.private}})
	a.do("imprint", "PutFunction", object{"name": "check", "kind": "rule", "rule": "in_table('serials', '" + a.private + "')"})
	maps.Copy(a.values, values{
		"PutFunction.Name": "check", "PutFunction.Kind": "rule", "PutFunction.Rule": "true", "DeleteFunction.Name": "check", "PutFunction.Url": absent{}, "PutFunction.AccessKeyId": absent{},
		"PutClaimLimits.Limits": object{"devices": 5}, "ApprovalId": "01936a2b-0000-7000-8000-000000000000",
		"KeepLog.Days":     7,
		"CreateTable.Name": "serials", "DeleteTable.Name": "serials", "PutTableKeys.Name": "serials", "ListTableKeys.Name": "serials", "DeleteTableKeys.Name": "serials",
		"LintTemplate.TemplateBody": absent{}, "TryTemplate.TemplateBody": absent{}, "TryTemplateWithHook.TemplateBody": absent{},
		"PutTableKeys.Keys": []any{"another"}, "DeleteTableKeys.Keys": []any{"another"},
	})
}

// answering is the code of a function that always answers the same.
func (a *tenant) answering(text string) string {
	var code bytes.Buffer
	z := zip.NewWriter(&code)
	w, err := z.Create("app.py")
	must(a.t, err)
	_, err = w.Write([]byte("def handler(event, context):\n    return '" + text + "'\n"))
	must(a.t, err)
	must(a.t, z.Close())
	return base64.StdEncoding.EncodeToString(code.Bytes())
}

func (a *tenant) furnishFunctions() {
	zipFile := a.answering(a.private)
	role, arn := a.arn("iam", "role/worker"), a.arn("lambda", "function:lampcheck")
	a.do("lambda", "CreateFunction", object{"FunctionName": "lampcheck", "Runtime": "python3.12", "Handler": "app.handler", "Role": role, "Description": a.private,
		"Code": object{"ZipFile": zipFile}, "Environment": object{"Variables": object{"SECRET": a.private}}, "Tags": object{"of": a.private}})
	a.do("lambda", "AddPermission", object{"FunctionName": "lampcheck", "StatementId": "iot", "Action": "lambda:InvokeFunction", "Principal": "iot.amazonaws.com"})
	maps.Copy(a.values, values{
		"GetFunctionLogs.Name": "lampcheck", "FunctionName": "lampcheck", "PutFunction.FunctionName": absent{}, "CreateFunction.Runtime": "python3.12", "CreateFunction.Handler": "app.handler",
		"CreateFunction.Role": role, "CreateFunction.Code": object{"ZipFile": zipFile}, "ZipFile": a.answering("changed"), "AddPermission.Principal": "iot.amazonaws.com",
		"AddPermission.Action": "lambda:InvokeFunction", "AddPermission.StatementId": "more", "RemovePermission.StatementId": "iot", "Resource": arn, "Invoke.Payload": "{}",
	})
}

func newCSR(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (a *tenant) furnishUserPool() {
	pool := a.do("cognito-idp", "CreateUserPool", object{"PoolName": a.private, "UserPoolTags": object{"of": a.private}}).dig("UserPool", "Id")
	client := a.do("cognito-idp", "CreateUserPoolClient", object{"UserPoolId": pool, "ClientName": a.private,
		"ExplicitAuthFlows": []any{"ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}}).dig("UserPoolClient", "ClientId")
	a.do("cognito-idp", "AdminCreateUser", object{"UserPoolId": pool, "Username": "ursula", "MessageAction": "SUPPRESS",
		"UserAttributes": []any{object{"Name": "name", "Value": a.private}}})
	a.do("cognito-idp", "AdminSetUserPassword", object{"UserPoolId": pool, "Username": "ursula", "Password": password, "Permanent": true})
	a.do("cognito-idp", "CreateGroup", object{"UserPoolId": pool, "GroupName": "people", "Description": a.private})
	a.do("cognito-idp", "AdminAddUserToGroup", object{"UserPoolId": pool, "GroupName": "people", "Username": "ursula"})
	signIn := a.do("cognito-idp", "InitiateAuth", object{"ClientId": client, "AuthFlow": "USER_PASSWORD_AUTH",
		"AuthParameters": object{"USERNAME": "ursula", "PASSWORD": password}})
	a.refresh = signIn.dig("AuthenticationResult", "RefreshToken")
	access := signIn.dig("AuthenticationResult", "AccessToken")
	a.do("cognito-idp", "SetUserPoolMfaConfig", object{"UserPoolId": pool, "MfaConfiguration": "OPTIONAL", "SoftwareTokenMfaConfiguration": object{"Enabled": true}})
	secret := a.do("cognito-idp", "AssociateSoftwareToken", object{"AccessToken": access}).dig("SecretCode")
	a.do("cognito-idp", "VerifySoftwareToken", object{"AccessToken": access, "UserCode": oneTimeCode(a.t, secret), "FriendlyDeviceName": a.private})
	a.do("cognito-idp", "SetUserMFAPreference", object{"AccessToken": access, "SoftwareTokenMfaSettings": object{"Enabled": true, "PreferredMfa": true}})
	domain := hex.EncodeToString([]byte(pool[strings.Index(pool, "_")+1:])) // of which there is one in all accounts; aws may be in no domain
	a.do("cognito-idp", "CreateUserPoolDomain", object{"UserPoolId": pool, "Domain": domain})
	a.do("cognito-idp", "CreateResourceServer", object{"UserPoolId": pool, "Identifier": "api", "Name": a.private})
	a.do("cognito-idp", "SetUICustomization", object{"UserPoolId": pool, "CSS": ".label-customizable{font-family:\"" + a.private + "\"}"})
	corp := object{"client_id": "c", "client_secret": a.private, "authorize_scopes": "openid", "oidc_issuer": "https://id.example", "attributes_request_method": "GET",
		"authorize_url": "https://id.example/a", "token_url": "https://id.example/t", "jwks_uri": "https://id.example/k"} // so that nobody has to be asked
	a.do("cognito-idp", "CreateIdentityProvider", object{"UserPoolId": pool, "ProviderName": "Corp", "ProviderType": "OIDC", "ProviderDetails": corp, "IdpIdentifiers": []any{"corp.example"}})
	logs := a.arn("iam", "role/logs")
	job := a.do("cognito-idp", "CreateUserImportJob", object{"UserPoolId": pool, "JobName": a.private, "CloudWatchLogsRoleArn": logs}).dig("UserImportJob", "JobId")
	maps.Copy(a.values, values{
		"JobId": job, "JobName": "people", "CloudWatchLogsRoleArn": logs,
		"ProviderName": "Corp", "CreateIdentityProvider.ProviderName": "More", "ProviderType": "OIDC", "ProviderDetails": corp, "IdpIdentifier": "corp.example",
		"IdpIdentifiers": absent{}, "AttributeMapping": object{"name": "name"},
		"DestinationUser": object{"ProviderName": "Cognito", "ProviderAttributeValue": "ursula"},
		"SourceUser":      object{"ProviderName": "Corp", "ProviderAttributeName": "Cognito_Subject", "ProviderAttributeValue": "x"},
		"User":            object{"ProviderName": "Corp", "ProviderAttributeName": "Cognito_Subject", "ProviderAttributeValue": "x"},
		"Domain":          domain, "CreateUserPoolDomain.Domain": domain + "-more", "Identifier": "api", "CreateResourceServer.Identifier": "more",
		"CSS": "", "ImageFile": absent{}, "CustomDomainConfig": absent{},
		"UserPoolId": pool, "ClientId": client, "Username": "ursula", "PoolName": "pool", "ClientName": "app", "Password": password, "Permanent": true,
		"AdminInitiateAuth.AuthFlow": "ADMIN_USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "ursula", "PASSWORD": password},
		"AdminRespondToAuthChallenge.ChallengeName": "NEW_PASSWORD_REQUIRED", "ChallengeResponses": object{"USERNAME": "ursula", "NEW_PASSWORD": password},
		"AdminRespondToAuthChallenge.Session": strings.Repeat("a", 32),
		"UserAttributes":                      []any{object{"Name": "name", "Value": "changed"}}, "UserAttributeNames": []any{"name"}, "AdminCreateUser.Username": "eve",
		"CustomAttributes": []any{object{"Name": "new", "AttributeDataType": "String"}}, "CreateGroup.GroupName": "more", "UpdateGroup.Description": "changed",
		"MfaConfiguration": "OFF", "GroupName": "people", "SoftwareTokenMfaSettings": object{"Enabled": false, "PreferredMfa": false},
	})
}

// oneTimeCode is what an authenticator app shows now (RFC 6238).
func oneTimeCode(t testing.TB, secret string) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	must(t, err)
	h := hmac.New(sha1.New, key)
	must(t, binary.Write(h, binary.BigEndian, time.Now().Unix()/30))
	sum := h.Sum(nil)
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff)%1_000_000)
}

func (a *tenant) furnishIdentityPool() {
	id := a.do("cognito-identity", "CreateIdentityPool", object{"IdentityPoolName": a.private, "AllowUnauthenticatedIdentities": true,
		"IdentityPoolTags": object{"of": a.private}}).dig("IdentityPoolId")
	a.do("cognito-identity", "SetIdentityPoolRoles", object{"IdentityPoolId": id, "Roles": object{"unauthenticated": a.arn("iam", "role/keeper")}})
	provider := "cognito-idp." + a.region + ".amazonaws.com/" + a.values["UserPoolId"].(string)
	a.do("cognito-identity", "SetPrincipalTagAttributeMap", object{"IdentityPoolId": id, "IdentityProviderName": provider, "PrincipalTags": object{"of": a.private}})
	identity := a.do("cognito-identity", "GetId", object{"IdentityPoolId": id}).dig("IdentityId")
	maps.Copy(a.values, values{
		"IdentityPoolId": id, "IdentityPoolName": "pool", "IdentityId": identity, "IdentityIdsToDelete": []any{identity}, "Roles": object{},
		"IdentityProviderName": provider,
	})
}

// of are the tenant's names as a service means them: some members mean another thing in another service.
func (a *tenant) of(service string) values {
	switch service {
	case "iot":
		return a.values.with(values{"PolicyName": "lamp-policy", "Description": absent{}, "ClientId": absent{}, "Status": absent{},
			"SetV2LoggingOptions.EventConfigurations": []any{}})
	case "iam":
		return a.values.with(values{"PolicyName": "inline", "CreatePolicy.PolicyName": "managed", "ClientID": "client"})
	case "cognito-idp":
		return a.values.with(values{"ResourceArn": a.arn("cognito-idp", "userpool/"+a.values["UserPoolId"].(string)), "Tags": object{"new": "x"}, "RoleArn": absent{}})
	case "cognito-identity":
		return a.values.with(values{"ResourceArn": a.arn("cognito-identity", "identitypool/"+a.values["IdentityPoolId"].(string)), "Tags": object{"new": "x"}})
	case "lambda":
		return a.values.with(values{"Tags": object{"new": "x"}, "TagKeys": []any{"of"}})
	case "sts":
		return a.values.with(values{"Tags": absent{}})
	case "iotdata":
		return a.values.with(values{"ClientId": "lamp"})
	}
	return a.values
}
