# Lets devices in by AWS's just-in-time registration: a rule hands over the event that a certificate waits for its activation.
import json, os, subprocess, time

import boto3

iot = boto3.client("iot")
with open(os.path.join(os.environ["LAMBDA_TASK_ROOT"], "serials.json")) as f:
    SERIALS = json.load(f)


def subject(pem):
    text = subprocess.run(["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline"], input=pem.encode(), capture_output=True, check=True).stdout.decode()
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in text.splitlines()[1:])}


def create(operation, **parameters):
    try:
        operation(**parameters)
    except iot.exceptions.ResourceAlreadyExistsException:
        pass  # the event comes with each connection until the certificate is active


def lambda_handler(event, context):
    time.sleep(float(os.environ.get("DELAY", "0")))
    certificate = event["certificateId"]
    prefix = "arn:aws:iot:%s:%s:" % (os.environ["AWS_REGION"], event["awsAccountId"])
    description = iot.describe_certificate(certificateId=certificate)["certificateDescription"]
    if description["status"] != "PENDING_ACTIVATION":
        return
    device = subject(description["certificatePem"])
    serial = device["serialNumber"]
    if serial in SERIALS["stolen"]:
        iot.update_certificate(certificateId=certificate, newStatus="REVOKED")
        print("serial number", serial, "was stolen")
        return
    if serial not in SERIALS["shipped"]:
        print("serial number", serial, "is not on the list")
        return
    create(iot.create_thing, thingName=device["commonName"], attributePayload={"attributes": {"serial": serial}})
    create(iot.create_policy, policyName="lamp", policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": prefix + "client/${iot:Connection.Thing.ThingName}"},
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": prefix + "topic/lamps/${iot:Certificate.Subject.SerialNumber}/*"}]}))
    iot.attach_policy(policyName="lamp", target=prefix + "cert/" + certificate)
    iot.attach_thing_principal(thingName=device["commonName"], principal=prefix + "cert/" + certificate)
    iot.update_certificate(certificateId=certificate, newStatus="ACTIVE")
    print(device["commonName"], "is in")
