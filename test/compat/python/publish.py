"""HTTPS publish with a certificate, as AWS's guide shows it: with requests-like headers on the certificate port, and by ALPN on the
port of everything else. Prints one JSON object: status and body of each."""
import http.client
import json
import os
import ssl

env = os.environ


def post(port, alpn, topic, body):
    context = ssl.create_default_context(cafile=env["AWS_CA_BUNDLE"])
    context.load_cert_chain(env["CERT"], env["KEY"])
    if alpn:
        context.set_alpn_protocols([alpn])
    conn = http.client.HTTPSConnection(env["IOT_ENDPOINT"], int(port), context=context, timeout=120)
    conn.request("POST", "/topics/" + topic + "?qos=1", body=body)
    answer = conn.getresponse()
    return [answer.status, json.loads(answer.read())]


print(json.dumps({
    "alpn": post(env["IOT_ALPN_PORT"], "x-amzn-http-ca", env["TOPIC"] + "/alpn", "by ALPN"),
    "port": post(env["IOT_HTTPS_CERT_PORT"], None, env["TOPIC"] + "/port", "by port"),
    "denied": post(env["IOT_ALPN_PORT"], "x-amzn-http-ca", "elsewhere", "x"),
}))
