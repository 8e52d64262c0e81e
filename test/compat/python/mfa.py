"""Software tokens by Debian's boto3: a person sets one up, signs in with its code by the public and by the administrator's operations,
and an administrator switches it off. Prints one JSON object; see mfa_test.go."""
import base64
import hashlib
import hmac
import json
import os
import struct
import time

import boto3
import botocore.exceptions

env = os.environ
idp = boto3.client("cognito-idp", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_REGION"])
pool, app, name = env["POOL_ID"], env["CLIENT_ID"], env["VISITOR"]
used = {}


def shown(secret):
    """The code of now, or the next one if that was used: the server takes each once."""
    used[secret] = max(used.get(secret, 0) + 1, int(time.time()) // 30)
    total = hmac.new(base64.b32decode(secret + "=" * (-len(secret) % 8)), struct.pack(">Q", used[secret]), hashlib.sha1).digest()
    at = total[19] & 15
    return "%06d" % ((struct.unpack(">I", total[at:at + 4])[0] & 0x7FFFFFFF) % 1000000)


def told(call, **kw):
    try:
        call(**kw)
    except botocore.exceptions.ClientError as e:
        return e.response["Error"]["Code"] + ": " + e.response["Error"]["Message"]


def sign_in():
    return idp.initiate_auth(ClientId=app, AuthFlow="USER_PASSWORD_AUTH", AuthParameters={"USERNAME": name, "PASSWORD": env["PASSWORD"]})


off = told(idp.set_user_pool_mfa_config, UserPoolId=pool, MfaConfiguration="ON")
mode = idp.set_user_pool_mfa_config(UserPoolId=pool, MfaConfiguration="OPTIONAL", SoftwareTokenMfaConfiguration={"Enabled": True})
access = sign_in()["AuthenticationResult"]["AccessToken"]
on = dict(Enabled=True, PreferredMfa=True)
unready = told(idp.set_user_mfa_preference, AccessToken=access, SoftwareTokenMfaSettings=on)
secret = idp.associate_software_token(AccessToken=access)["SecretCode"]
status = idp.verify_software_token(AccessToken=access, UserCode=shown(secret), FriendlyDeviceName="phone")["Status"]
idp.set_user_mfa_preference(AccessToken=access, SoftwareTokenMfaSettings=on)
user = idp.get_user(AccessToken=access)
asked = sign_in()
tokens = idp.respond_to_auth_challenge(ClientId=app, ChallengeName=asked["ChallengeName"], Session=asked["Session"],
                                       ChallengeResponses={"USERNAME": name, "SOFTWARE_TOKEN_MFA_CODE": shown(secret)})
secret = idp.associate_software_token(AccessToken=access)["SecretCode"]  # another phone
idp.verify_software_token(AccessToken=access, UserCode=shown(secret))
idp.update_user_pool_client(UserPoolId=pool, ClientId=app, ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH"])
admin = idp.admin_initiate_auth(UserPoolId=pool, ClientId=app, AuthFlow="ADMIN_USER_PASSWORD_AUTH", AuthParameters={"USERNAME": name, "PASSWORD": env["PASSWORD"]})
by_admin = idp.admin_respond_to_auth_challenge(UserPoolId=pool, ClientId=app, ChallengeName=admin["ChallengeName"], Session=admin["Session"],
                                               ChallengeResponses={"USERNAME": name, "SOFTWARE_TOKEN_MFA_CODE": shown(secret)})
seen = idp.admin_get_user(UserPoolId=pool, Username=name)
idp.admin_set_user_mfa_preference(UserPoolId=pool, Username=name, SoftwareTokenMfaSettings=dict(Enabled=False, PreferredMfa=False))
print(json.dumps({
    "off": off, "mode": mode["MfaConfiguration"], "config": idp.get_user_pool_mfa_config(UserPoolId=pool)["SoftwareTokenMfaConfiguration"],
    "unready": unready, "status": status, "factors": user["UserMFASettingList"], "asked": asked["ChallengeName"],
    "signedIn": ["AccessToken" in t["AuthenticationResult"] for t in (tokens, by_admin, sign_in())], "seen": seen["PreferredMfaSetting"],
}))
