"""Buckets by Debian's boto3: objects with metadata, checksums, ranges, parts and links. Prints one JSON object of what held; see
buckets_test.go."""
import io
import json
import os
import urllib.request
import ssl

import boto3
import botocore.client
import botocore.exceptions
from boto3.s3.transfer import TransferConfig

env = os.environ
s3 = boto3.client("s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_REGION"])
held = {}


def code(call, **kw):
    try:
        call(**kw)
        return "none"
    except botocore.exceptions.ClientError as e:
        return e.response["Error"]["Code"]


s3.create_bucket(Bucket="boto-bucket")
held["bucket is listed"] = "boto-bucket" in [b["Name"] for b in s3.list_buckets()["Buckets"]]
s3.put_object(Bucket="boto-bucket", Key="a/b c", Body=b"0123456789", ContentType="text/x", Metadata={"plant": "7"})
got = s3.get_object(Bucket="boto-bucket", Key="a/b c")
held["object comes back"] = got["Body"].read() == b"0123456789" and got["ContentType"] == "text/x" and got["Metadata"] == {"plant": "7"}
part = s3.get_object(Bucket="boto-bucket", Key="a/b c", Range="bytes=-3")
held["range"] = part["Body"].read() == b"789" and part["ContentRange"] == "bytes 7-9/10"
held["range behind the end"] = code(s3.get_object, Bucket="boto-bucket", Key="a/b c", Range="bytes=10-") == "InvalidRange"
held["not modified"] = code(s3.get_object, Bucket="boto-bucket", Key="a/b c", IfNoneMatch=got["ETag"]) == "304"

content = os.urandom(12 << 20)
s3.upload_fileobj(io.BytesIO(content), "boto-bucket", "parts", Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
held["parts"] = s3.get_object(Bucket="boto-bucket", Key="parts")["Body"].read() == content and s3.head_object(Bucket="boto-bucket", Key="parts")["ETag"].endswith('-3"')

up = s3.create_multipart_upload(Bucket="boto-bucket", Key="left")["UploadId"]
s3.upload_part(Bucket="boto-bucket", Key="left", UploadId=up, PartNumber=2, Body=b"x")
held["upload is listed"] = [u["UploadId"] for u in s3.list_multipart_uploads(Bucket="boto-bucket").get("Uploads", [])] == [up]
held["part is listed"] = [p["PartNumber"] for p in s3.list_parts(Bucket="boto-bucket", Key="left", UploadId=up)["Parts"]] == [2]
s3.abort_multipart_upload(Bucket="boto-bucket", Key="left", UploadId=up)
held["upload is gone"] = code(s3.list_parts, Bucket="boto-bucket", Key="left", UploadId=up) == "NoSuchUpload"

v4 = boto3.client("s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_REGION"], config=botocore.client.Config(signature_version="s3v4"))
trust = ssl.create_default_context(cafile=env["AWS_CA_BUNDLE"])
for version, client in {"2": s3, "4": v4}.items():
    link = client.generate_presigned_url("get_object", Params={"Bucket": "boto-bucket", "Key": "a/b c", "ResponseContentType": "text/y"})
    with urllib.request.urlopen(link, context=trust) as r:
        held["link of version " + version] = r.read() == b"0123456789" and r.headers["Content-Type"] == "text/y"

held["copy"] = "CopyObjectResult" in s3.copy_object(Bucket="boto-bucket", Key="copy", CopySource={"Bucket": "boto-bucket", "Key": "a/b c"}) and \
    s3.head_object(Bucket="boto-bucket", Key="copy")["Metadata"] == {"plant": "7"}
gone = s3.delete_objects(Bucket="boto-bucket", Delete={"Objects": [{"Key": k} for k in ("a/b c", "parts", "copy", "never")]})
held["deleted"] = len(gone["Deleted"]) == 4
s3.delete_bucket(Bucket="boto-bucket")
held["bucket is gone"] = code(s3.head_bucket, Bucket="boto-bucket") == "404"
print(json.dumps(held))
