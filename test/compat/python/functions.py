"""Functions by Debian's boto3: made from zip files, waited for, invoked with the tail of their log, changed, listed by pages, deleted.
Prints one JSON object."""
import base64
import json
import os
import sys

import boto3

env = os.environ
c = boto3.client("lambda", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_REGION"])


def code(version):
    with open(os.path.join(env["ZIPS"], version + ".zip"), "rb") as f:
        return f.read()


def invoke(event):
    out = c.invoke(FunctionName="one", LogType="Tail", Payload=json.dumps(event))
    return json.load(out["Payload"]), out


for name in ("one", "two"):
    c.create_function(FunctionName=name, Runtime="python3.9", Handler="app.lambda_handler", Role=env["ROLE"], Code={"ZipFile": code("1")})
    c.get_waiter("function_active_v2").wait(FunctionName=name)
first, out = invoke({})
log = base64.b64decode(out["LogResult"]).decode()
c.update_function_code(FunctionName="one", ZipFile=code("2"))
c.get_waiter("function_updated").wait(FunctionName="one")
c.update_function_configuration(FunctionName="one", Environment={"Variables": {"COLOR": "red"}})
c.get_waiter("function_updated_v2").wait(FunctionName="one")
second, _ = invoke({})
_, failed = invoke({"fail": "luck"})
c.add_permission(FunctionName="one", StatementId="AllowIoT", Action="lambda:InvokeFunction", Principal="iot.amazonaws.com")
policy = c.get_policy(FunctionName="one")["Policy"]
pages = c.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
listed = [f["FunctionName"] for page in pages for f in page["Functions"]]
for name in ("one", "two"):
    c.delete_function(FunctionName=name)
try:
    c.get_function(FunctionName="one")
    gone = ""
except c.exceptions.ResourceNotFoundException as e:
    gone = e.response["Error"]["Code"]
json.dump({"answers": [first, second], "log": log, "policy": policy, "listed": listed, "failed": failed["FunctionError"], "gone": gone}, sys.stdout)
