"""Fills the server that the environment names (imprint env) with something of everything, and prints as JSON what a later version must
find there. See README.md."""
import json
import os
import subprocess
import sys
import tempfile

import boto3
from botocore import UNSIGNED
from botocore.config import Config

env = os.environ
REGION = env["AWS_REGION"]
PASSWORD = "Correct-Horse-7!"
ACCOUNT = "000000000000"


def client(service, **kw):
    return boto3.client(service, endpoint_url=env["AWS_ENDPOINT_URL"], region_name=REGION, **kw)


def unsigned(service):
    return client(service, config=Config(signature_version=UNSIGNED))


def policy(action="*", resource="*", **kw):
    return json.dumps({"Version": "2012-10-17", "Statement": dict({"Effect": "Allow", "Action": action}, **(kw or {"Resource": resource}))})


iam, iot, idp, ids = client("iam"), client("iot"), client("cognito-idp"), client("cognito-identity")
facts = {"password": PASSWORD}

# IAM
trust = policy("sts:AssumeRole", Principal={"Service": "iot.amazonaws.com"})
provisioning = iam.create_role(RoleName="provisioning", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
iam.attach_role_policy(RoleName="provisioning", PolicyArn="arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration")
iam.create_user(UserName="ada")
iam.create_group(GroupName="operators")
iam.add_user_to_group(GroupName="operators", UserName="ada")
managed = iam.create_policy(PolicyName="reader", PolicyDocument=policy("iot:List*"))["Policy"]["Arn"]
iam.create_policy_version(PolicyArn=managed, PolicyDocument=policy(["iot:List*", "iot:Describe*"]), SetAsDefault=True)
iam.attach_group_policy(GroupName="operators", PolicyArn=managed)
iam.put_user_policy(UserName="ada", PolicyName="own", PolicyDocument=policy("sts:GetCallerIdentity"))
key = iam.create_access_key(UserName="ada")["AccessKey"]
facts["accessKey"] = {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}

# IoT registry
iot.create_thing_type(thingTypeName="lamp", thingTypeProperties={"thingTypeDescription": "a lamp", "searchableAttributes": ["colour"]})
iot.create_billing_group(billingGroupName="factory", tags=[{"Key": "site", "Value": "north"}])
iot.create_thing_group(thingGroupName="lamps")
iot.create_thing_group(thingGroupName="hall", parentGroupName="lamps")
iot.create_policy(policyName="lamp", policyDocument=policy("iot:Connect"))
iot.create_policy_version(policyName="lamp", policyDocument=policy("iot:*"), setAsDefault=True)
iot.attach_policy(policyName="lamp", target=iot.describe_thing_group(thingGroupName="lamps")["thingGroupArn"])
iot.create_thing(thingName="lamp-1", thingTypeName="lamp", attributePayload={"attributes": {"colour": "red"}}, billingGroupName="factory")
iot.add_thing_to_thing_group(thingGroupName="hall", thingName="lamp-1")
made = iot.create_keys_and_certificate(setAsActive=True)
iot.attach_policy(policyName="lamp", target=made["certificateArn"])
iot.attach_thing_principal(thingName="lamp-1", principal=made["certificateArn"])
facts["device"] = {"thing": "lamp-1", "certificate": made["certificatePem"], "key": made["keyPair"]["PrivateKey"], "id": made["certificateId"]}
iot.update_event_configurations(eventConfigurations={"THING": {"Enabled": True}})
facts["endpoint"] = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]

# Provisioning, by the agent
body = {"Parameters": {"SerialNumber": {"Type": "String"}}, "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["", ["lamp-", {"Ref": "SerialNumber"}]]}}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamp"}}}, "DeviceConfiguration": {"colour": "green"}}
iot.create_provisioning_template(templateName="lamps", templateBody=json.dumps(body), enabled=True, provisioningRoleArn=provisioning)
iot.create_provisioning_template_version(templateName="lamps", templateBody=json.dumps(body))
claim = iot.create_provisioning_claim(templateName="lamps")
with tempfile.TemporaryDirectory() as d:
    path = os.path.join(d, "claim.json")
    with open(path, "w") as f:
        json.dump(claim, f, default=str)
    os.chmod(path, 0o600)
    subprocess.run([env["IMPRINT_DEVICE"], "provision", "--dir", os.path.join(d, "store"), "--claim", path, "--template", "lamps", "--param", "SerialNumber=2",
                    "--endpoint", env["IOT_ENDPOINT"], "--port", env["IOT_PORT"], "--ca", env["AWS_CA_BUNDLE"]], check=True, stdout=sys.stderr)

# User pool and identity pool
pool = idp.create_user_pool(PoolName="people", AliasAttributes=["email"], AutoVerifiedAttributes=["email"],
                            AdminCreateUserConfig={"AllowAdminCreateUserOnly": False})["UserPool"]["Id"]
app = idp.create_user_pool_client(UserPoolId=pool, ClientName="app", ExplicitAuthFlows=[
    "ALLOW_USER_SRP_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"])["UserPoolClient"]["ClientId"]
idp.create_group(UserPoolId=pool, GroupName="installers", RoleArn=provisioning, Precedence=1)
for user in "ida", "fired":
    idp.admin_create_user(UserPoolId=pool, Username=user, MessageAction="SUPPRESS", TemporaryPassword="Temporary-1!", UserAttributes=[
        {"Name": "email", "Value": user + "@example.com"}, {"Name": "email_verified", "Value": "true"}])
    idp.admin_add_user_to_group(UserPoolId=pool, Username=user, GroupName="installers")
anonymous = unsigned("cognito-idp")
auth = dict(ClientId=app, AuthFlow="USER_PASSWORD_AUTH")
challenge = anonymous.initiate_auth(AuthParameters={"USERNAME": "ida", "PASSWORD": "Temporary-1!"}, **auth)
tokens = anonymous.respond_to_auth_challenge(ClientId=app, ChallengeName="NEW_PASSWORD_REQUIRED", Session=challenge["Session"],
                                             ChallengeResponses={"USERNAME": "ida", "NEW_PASSWORD": PASSWORD})["AuthenticationResult"]
anonymous.sign_up(ClientId=app, Username="new", Password=PASSWORD, UserAttributes=[{"Name": "email", "Value": "new@example.com"}])
try:
    anonymous.initiate_auth(AuthParameters={"USERNAME": "ida", "PASSWORD": "wrong"}, **auth)
except anonymous.exceptions.NotAuthorizedException:
    pass
idp.admin_delete_user(UserPoolId=pool, Username="fired")
provider = f"cognito-idp.{REGION}.amazonaws.com/{pool}"
identities = ids.create_identity_pool(IdentityPoolName="people", AllowUnauthenticatedIdentities=False, CognitoIdentityProviders=[
    {"ProviderName": provider, "ClientId": app}])["IdentityPoolId"]
trust = policy("sts:AssumeRoleWithWebIdentity", Principal={"Federated": "cognito-identity.amazonaws.com"},
               Condition={"StringEquals": {"cognito-identity.amazonaws.com:aud": identities}})
installer = iam.create_role(RoleName="installer", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
iam.put_role_policy(RoleName="installer", PolicyName="claims", PolicyDocument=policy("iot:CreateProvisioningClaim"))
ids.set_identity_pool_roles(IdentityPoolId=identities, Roles={"authenticated": installer})
identity = unsigned("cognito-identity").get_id(IdentityPoolId=identities, Logins={provider: tokens["IdToken"]})["IdentityId"]
facts["people"] = {"pool": pool, "client": app, "user": "ida", "email": "ida@example.com", "identityPool": identities, "identity": identity, "provider": provider}
json.dump(facts, sys.stdout, indent=1)
