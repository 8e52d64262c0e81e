"""The flow of AWS's Python reference client for fleet provisioning on the MQTT stack that it uses, the AWS Common Runtime: MQTT 3.1.1,
keep-alive of 6 s, clean session off, a client id that is not the thing's name, one SUBSCRIBE per topic, the SDK's metrics as user name,
and success told by the presence of deviceConfiguration alone. With CSR_FILE the device has made its own key. Prints one JSON object."""
import json
import os
import queue
import sys

from awscrt import io, mqtt

env = os.environ
TEMPLATE, SERIAL = env["TEMPLATE"], env["SERIAL"]
TIMEOUT = 120
QOS = mqtt.QoS.AT_LEAST_ONCE

loops = io.EventLoopGroup(1)
bootstrap = io.ClientBootstrap(loops, io.DefaultHostResolver(loops))
messages, interruptions = queue.Queue(), []


def read(path):
    with open(path, "rb") as f:
        return f.read()


def keep(topic, payload, **kw):
    messages.put((topic, json.loads(payload)))


def connect(client_id, cert, key, listen=False):
    """Returns the connection, and whether the server had kept a session for it. One that listens takes what comes without its subscribing."""
    tls = io.TlsContextOptions.create_client_with_mtls(cert, key)
    tls.override_default_trust_store_from_path(None, env["AWS_CA_BUNDLE"])
    if env["ALPN"]:  # the SDK asks for it on port 443, and for none elsewhere
        tls.alpn_list = [env["ALPN"]]
    c = mqtt.Connection(
        client=mqtt.Client(bootstrap, io.ClientTlsContext(tls)), host_name=env["IOT_ENDPOINT"], port=int(env["MQTT_PORT"]), client_id=client_id,
        clean_session=False, keep_alive_secs=6, ping_timeout_ms=5900, username="?SDK=PythonV2&Version=1.7.0",
        on_connection_interrupted=lambda connection, error, **kw: interruptions.append(str(error)))
    if listen:
        c.on_message(keep)
    return c, c.connect().result(TIMEOUT)["session_present"]


def subscribe(c, topic):
    granted, _ = c.subscribe(topic, QOS, callback=keep)
    if granted.result(TIMEOUT)["qos"] != QOS:
        sys.exit(f"{topic} was not granted at QoS 1")


def publish(c, topic, message):
    c.publish(topic, json.dumps(message), QOS)[0].result(TIMEOUT)


def receive(member):
    topic, message = messages.get(timeout=TIMEOUT)
    if member not in message:
        sys.exit(f"no {member}, but on {topic}: {message}")
    return message


create, request = "$aws/certificates/create/json", {}
if env["CSR_FILE"]:
    create, request = "$aws/certificates/create-from-csr/json", {"certificateSigningRequest": read(env["CSR_FILE"]).decode()}
register = f"$aws/provisioning-templates/{TEMPLATE}/provision/json"

claim = SERIAL, read(env["CLAIM_CERT"]), read(env["CLAIM_KEY"])
c, _ = connect(*claim)
for topic in (register + "/rejected", create + "/rejected", register + "/accepted", create + "/accepted"):
    subscribe(c, topic)
publish(c, create, request)
made = receive("certificateId")
publish(c, register, {"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": SERIAL}})
registered = receive("deviceConfiguration")

key = made["privateKey"].encode() if "privateKey" in made else read(env["KEY_FILE"])
device, _ = connect(SERIAL + "-Prod", made["certificatePem"].encode(), key)
subscribe(device, env["OPEN_TOPIC"])
publish(device, env["OPEN_TOPIC"], {"service_response": "from a topic that the claim may not use"})
heard = receive("service_response")

# Subscriptions of before the cut hold: the session was kept.
c.disconnect().result(TIMEOUT)
c, kept = connect(*claim, listen=True)
publish(c, register, {"certificateOwnershipToken": "forged", "parameters": {"SerialNumber": SERIAL}})
refused = receive("errorCode")

for connection in (c, device):
    connection.disconnect().result(TIMEOUT)
json.dump({"thing": registered["thingName"], "configuration": registered["deviceConfiguration"], "heard": heard["service_response"], "kept": kept,
           "refused": refused["errorCode"], "interruptions": interruptions}, sys.stdout)
