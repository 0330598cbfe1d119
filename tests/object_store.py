"""An S3 server on loopback, for tests: it can be stopped and started again and keeps what it holds."""

from __future__ import annotations

import logging

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class ObjectStore:
    """moto's server, in a thread; what it holds belongs to the process."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.buckets = 0
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach the server."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    def bucket(self) -> str:
        """The URI of a new, empty bucket."""
        self.buckets += 1
        name = f"bucket-{self.buckets}"
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def keys(self, bucket: str) -> list[str]:
        """What a bucket holds, as another client sees it."""
        found = self.client().list_objects_v2(Bucket=bucket.removeprefix("s3://"))
        return sorted(entry["Key"] for entry in found.get("Contents", []))

    def client(self) -> object:
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}")
