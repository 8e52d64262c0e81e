"""Parties played by paho for Python, for MQTT 3.1.1 and 5: see test/compat/party_test.go.

Reads requests, one line of JSON each, until the end of its input. IOT_CERT and IOT_KEY name the device's files.
"""

import json
import os
import socket
import ssl
import sys
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

TIMEOUT = 120
printing = threading.Lock()


def say(**line):
    with printing:
        print(json.dumps(line), flush=True)


def properties(kind, **values):
    """The values that are set, or None."""
    p = Properties(kind)
    for name, value in values.items():
        if value is not None:
            setattr(p, name, value)
    return p if p.json() else None


def message_properties(letter, kind):
    p = properties(
        kind,
        PayloadFormatIndicator=letter.get("format"),
        MessageExpiryInterval=letter.get("expiry"),
        ContentType=letter.get("contentType"),
        ResponseTopic=letter.get("response"),
        CorrelationData=letter["correlation"].encode() if "correlation" in letter else None,
        TopicAlias=letter.get("alias"),
    )
    for pair in letter.get("user", []):
        p = p or Properties(kind)
        p.UserProperty = tuple(pair)
    return p


def letter_of(m, v):
    letter = {"topic": m.topic, "payload": m.payload.decode(), "qos": m.qos, "retain": bool(m.retain)}
    if v != 5:
        return letter
    p = m.properties
    for name, key in (("PayloadFormatIndicator", "format"), ("MessageExpiryInterval", "expiry"),
                      ("ContentType", "contentType"), ("ResponseTopic", "response")):
        if hasattr(p, name):
            letter[key] = getattr(p, name)
    if hasattr(p, "CorrelationData"):
        letter["correlation"] = p.CorrelationData.decode()
    if hasattr(p, "UserProperty"):
        letter["user"] = [list(pair) for pair in p.UserProperty]
    return letter


class Party:
    def __init__(self, name, v):
        self.name, self.v, self.client = name, v, None
        self.answers = {}  # what a callback reports, by kind and message id
        self.changed = threading.Condition()

    def put(self, answers, key, value):
        with self.changed:
            answers[key] = value
            self.changed.notify_all()

    def take(self, key):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.answers or "lost" in self.answers, TIMEOUT):
                raise TimeoutError(f"no answer to {key} within {TIMEOUT} s")
            if key not in self.answers:
                raise ConnectionError("the connection was lost")
            return self.answers.pop(key)

    def connect(self, join):
        answers = self.answers = {}  # of this connection: an earlier one may still be ending
        arguments = {"protocol": paho.MQTTv5} if self.v == 5 else {"protocol": paho.MQTTv311, "clean_session": join["clean"]}
        c = self.client = paho.Client(join["clientId"], **arguments)
        tls = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
        tls.load_cert_chain(os.environ["IOT_CERT"], os.environ["IOT_KEY"])
        if join.get("alpn"):
            tls.set_alpn_protocols(["x-amzn-mqtt-ca"])
        c.tls_set_context(tls)
        c.reconnect_delay_set(1, 1)
        c.released = threading.Event()  # we end the connection: nothing is withheld or told any more

        def on_connect(client, userdata, flags, code, props=None):
            self.put(answers, "connack", (flags, code, props))

        def on_message(client, userdata, m):
            say(party=self.name, mail=letter_of(m, self.v))
            if join.get("hold"):
                c.released.wait()  # paho acknowledges when this returns

        def on_disconnect(client, userdata, code, props=None):
            if not join.get("reconnect"):
                c._thread_terminate = True  # it would connect again
            if not c.released.is_set():
                say(party=self.name, lost=True, code=getattr(code, "value", 0))
            if c._thread_terminate or c.released.is_set():
                self.put(answers, "lost", True)

        c.on_connect, c.on_message, c.on_disconnect = on_connect, on_message, on_disconnect
        c.on_subscribe = lambda client, userdata, mid, codes, props=None: self.put(answers, ("suback", mid), [getattr(x, "value", x) for x in codes])
        c.on_unsubscribe = lambda client, userdata, mid, *more: self.put(answers, ("unsuback", mid), True)
        c.on_publish = lambda client, userdata, mid: self.put(answers, ("puback", mid), True)
        will = join.get("will")
        if will:
            c.will_set(will["topic"], will["payload"], will["qos"], will.get("retain", False),
                       **({"properties": message_properties(will, PacketTypes.WILLMESSAGE)} if self.v == 5 else {}))
        more = {}
        if self.v == 5:
            more = {"clean_start": join["clean"], "properties": properties(
                PacketTypes.CONNECT, SessionExpiryInterval=join.get("expiry"), ReceiveMaximum=join.get("receiveMax"),
                MaximumPacketSize=join.get("maxPacketSize"))}
        port = int(os.environ["IOT_ALPN_PORT" if join.get("alpn") else "IOT_PORT"])
        c.connect(join.get("host", os.environ["IOT_ENDPOINT"]), port, join["keepAlive"], **more)
        c.loop_start()
        flags, code, props = self.take("connack")
        if code != 0:
            raise ConnectionRefusedError(f"CONNACK {getattr(code, 'value', code)}")
        welcome = {"sessionPresent": bool(flags["session present"])}
        for name, key in (("AssignedClientIdentifier", "assignedId"), ("ServerKeepAlive", "keepAlive"), ("ReceiveMaximum", "receiveMax"),
                          ("MaximumPacketSize", "maxPacketSize"), ("TopicAliasMaximum", "aliasMax"), ("SessionExpiryInterval", "expiry")):
            if hasattr(props, name):
                welcome[key] = getattr(props, name)
        return {"welcome": welcome}

    def subscribe(self, asks):
        if self.v == 5:
            filters = [(a["filter"], SubscribeOptions(a["qos"], a.get("noLocal", False), a.get("retainAsPublished", False), a.get("retainHandling", 0)))
                       for a in asks]
            _, mid = self.client.subscribe(filters, properties=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=asks[0].get("identifier")))
        else:
            _, mid = self.client.subscribe([(a["filter"], a["qos"]) for a in asks])
        return {"codes": self.take(("suback", mid))}

    def unsubscribe(self, name):
        _, mid = self.client.unsubscribe(name)
        self.take(("unsuback", mid))
        return {}

    def publish(self, letter):
        more = {"properties": message_properties(letter, PacketTypes.PUBLISH)} if self.v == 5 else {}
        m = self.client.publish(letter["topic"], letter["payload"], letter["qos"], letter.get("retain", False), **more)
        self.take(("puback", m.mid))
        return {}

    def disconnect(self, expiry):
        more = {"properties": properties(PacketTypes.DISCONNECT, SessionExpiryInterval=expiry)} if self.v == 5 else {}
        self.client.released.set()
        self.client.disconnect(**more)
        with self.changed:
            self.changed.wait_for(lambda: "lost" in self.answers or not self.client.socket(), TIMEOUT)
        return {}

    def cut(self):
        self.client._thread_terminate = True
        if open_one := self.client.socket():
            open_one.shutdown(socket.SHUT_RDWR)  # first, so that no acknowledgement gets through
        self.client.released.set()
        return {}


parties = {}


def handle(q):
    p = parties.setdefault(q["party"], Party(q["party"], q["v"]))
    argument = {"connect": "join", "subscribe": "ask", "unsubscribe": "filter", "publish": "letter", "disconnect": "expiry"}.get(q["do"])
    try:
        out = getattr(p, q["do"])(*([q.get(argument)] if argument else []))
        say(id=q["id"], **out)
    except Exception as e:  # whatever it is, the scenario wants to know
        say(id=q["id"], error=f"{type(e).__name__}: {e}")


for line in sys.stdin:
    threading.Thread(target=handle, args=(json.loads(line),), daemon=True).start()
os._exit(0)
