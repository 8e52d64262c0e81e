"""The story by Debian's boto3 and paho-mqtt: an installer signs in with a password, gets the role's credentials and a claim, and
a device written like AWS's Python reference client provisions with keys made by the service: clean session off, keep-alive 6 s,
one SUBSCRIBE per topic, success told by the presence of deviceConfiguration. Prints one JSON object."""
import json
import os
import queue
import sys
import tempfile

import boto3
import botocore.exceptions
import paho.mqtt.client as mqtt
from botocore import UNSIGNED
from botocore.config import Config

env = os.environ
URL, REGION = env["AWS_ENDPOINT_URL"], env["AWS_REGION"]


def client(service, **kw):
    # Debian's boto3 doesn't know AWS_ENDPOINT_URL yet.
    return boto3.client(service, endpoint_url=URL, region_name=REGION, **kw)


def unsigned(service):
    return client(service, config=Config(signature_version=UNSIGNED))


def code_of(call, **kw):
    try:
        call(**kw)
    except botocore.exceptions.ClientError as e:
        return e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"]
    return "", 200


def sign_in():
    idp = unsigned("cognito-idp")
    auth = dict(ClientId=env["CLIENT_ID"], AuthFlow="USER_PASSWORD_AUTH")
    wrong = code_of(idp.initiate_auth, AuthParameters={"USERNAME": env["INSTALLER"], "PASSWORD": "wrong"}, **auth)
    tokens = idp.initiate_auth(AuthParameters={"USERNAME": env["INSTALLER"], "PASSWORD": env["PASSWORD"]}, **auth)["AuthenticationResult"]
    fresh = idp.initiate_auth(ClientId=env["CLIENT_ID"], AuthFlow="REFRESH_TOKEN_AUTH", AuthParameters={"REFRESH_TOKEN": tokens["RefreshToken"]})
    return wrong, fresh["AuthenticationResult"]["IdToken"]


def credentials(id_token):
    identity = unsigned("cognito-identity")
    logins = {f"cognito-idp.{REGION}.amazonaws.com/{env['POOL_ID']}": id_token}
    identity_id = identity.get_id(IdentityPoolId=env["IDENTITY_POOL"], Logins=logins)["IdentityId"]
    c = identity.get_credentials_for_identity(IdentityId=identity_id, Logins=logins)["Credentials"]
    return dict(aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretKey"], aws_session_token=c["SessionToken"])


class Device:
    def __init__(self, client_id, cert, key):
        self.messages, self.acks = queue.Queue(), queue.Queue()
        self.dir = tempfile.TemporaryDirectory()
        files = {}
        for name, pem in (("cert", cert), ("key", key)):
            files[name] = os.path.join(self.dir.name, name)
            with open(files[name], "w") as f:
                f.write(pem)
        # paho-mqtt 2 wants to be told which callbacks it meets.
        api = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []
        self.c = mqtt.Client(*api, client_id=client_id, clean_session=False, protocol=mqtt.MQTTv311)
        self.c.tls_set(env["AWS_CA_BUNDLE"], files["cert"], files["key"])
        self.c.on_message = lambda c, u, m: self.messages.put((m.topic, m.payload))
        self.c.on_connect = lambda c, u, f, rc: self.acks.put(("connect", rc))
        self.c.on_subscribe = lambda c, u, mid, qos: self.acks.put(("subscribe", qos[0]))
        self.c.connect(env["IOT_ENDPOINT"], int(env["IOT_PORT"]), keepalive=6)
        self.c.loop_start()
        self.expect("connect", 0)

    def expect(self, what, value):
        got = self.acks.get(timeout=120)
        if got != (what, value):
            raise SystemExit(f"{what}: {got}")

    def subscribe(self, topic):
        self.c.subscribe(topic, 1)
        self.expect("subscribe", 1)

    def ask(self, topic, payload):
        self.c.publish(topic, json.dumps(payload), 1)
        return json.loads(self.messages.get(timeout=120)[1])

    def stop(self):
        self.c.disconnect()
        self.c.loop_stop()


def provision(claim):
    d = Device("python-device", claim["certificatePem"], claim["keyPair"]["PrivateKey"])
    register = f"$aws/provisioning-templates/{env['TEMPLATE']}/provision/json"
    for topic in (register + "/rejected", "$aws/certificates/create/json/rejected", register + "/accepted", "$aws/certificates/create/json/accepted"):
        d.subscribe(topic)
    made = d.ask("$aws/certificates/create/json", {})
    answer = d.ask(register, {"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": "py1"}})
    if "deviceConfiguration" not in answer:
        raise SystemExit(f"rejected: {answer}")
    # The second connection opens while the first still stands, at once.
    own = Device(answer["thingName"], made["certificatePem"], made["privateKey"])
    topic = f"lamps/{answer['thingName']}/state"
    own.subscribe(topic)
    own.c.publish(topic, "on", 1)
    heard = own.messages.get(timeout=120)[1].decode()
    d.stop()
    own.stop()
    return answer, heard


wrong, id_token = sign_in()
creds = credentials(id_token)
iot = client("iot", **creds)
denied = code_of(iot.list_things)
claim = iot.create_provisioning_claim(templateName=env["TEMPLATE"])
answer, heard = provision(claim)
json.dump({"arn": client("sts", **creds).get_caller_identity()["Arn"], "wrong": wrong, "denied": denied, "thing": answer["thingName"], "heard": heard}, sys.stdout)
