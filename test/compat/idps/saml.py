"""A SAML identity provider made with the library pysaml2, on loopback with TLS. It reads requests against the service provider's own
metadata, signs everybody in as ada, and answers with a page that posts itself. Its metadata is at /metadata. Prints its entity id."""
import http.server
import os
import ssl
import urllib.parse

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT, xmldsig
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_PERSISTENT, NAME_FORMAT_URI, NameID
from saml2.server import Server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/metadata":
            return self.say("application/samlmetadata+xml", METADATA)
        query = dict(urllib.parse.parse_qsl(url.query))
        request = idp().parse_authn_request(query["SAMLRequest"], BINDING_HTTP_REDIRECT)
        args = idp().response_args(request.message)
        args.pop("name_id_policy", None)
        response = idp().create_authn_response(
            identity={"mail": "ada@example.com", "displayName": "Ada"}, userid="ada",
            name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text="ada-4711"),
            authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport", "authn_auth": BASE},
            sign_assertion=True, sign_response=os.environ.get("SIGN") == "both",
            sign_alg=xmldsig.SIG_RSA_SHA256, digest_alg=xmldsig.DIGEST_SHA256, **args)
        form = idp().apply_binding(BINDING_HTTP_POST, str(response), args["destination"], query.get("RelayState", ""), response=True)
        self.say("text/html", form["data"])

    def say(self, kind, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def idp():
    """The library with the service provider's metadata, which exists only once the provider is known there."""
    if "made" not in globals():
        globals()["made"] = Server(config=config([os.environ["SP_METADATA"]]))
    return globals()["made"]


def config(known):
    return IdPConfig().load({
        "entityid": BASE + "/metadata", "xmlsec_binary": "/usr/bin/xmlsec1",
        "key_file": os.environ["SIGNING_KEY"], "cert_file": os.environ["SIGNING_CERTIFICATE"],
        "metadata": {"local": known},
        "service": {"idp": {
            "endpoints": {"single_sign_on_service": [(BASE + "/sso", BINDING_HTTP_REDIRECT)]},
            "name_id_format": [NAMEID_FORMAT_PERSISTENT],
            "policy": {"default": {"lifetime": {"minutes": 5}, "attribute_restrictions": None, "name_form": NAME_FORMAT_URI}},
        }},
    })


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
BASE = "https://127.0.0.1:%d" % server.server_port
METADATA = str(entity_descriptor(config([])))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(BASE + "/metadata", flush=True)
server.serve_forever()
