"""moto's S3 on loopback, which fails on demand."""

import io
import json
import threading
from contextlib import contextmanager

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "bucket"
_PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{BUCKET}/*",
        }
    ],
}
"""Everybody may read, as from a bucket that is published."""


class _Quiet(WSGIRequestHandler):
    def log(self, *args):
        pass


class S3:
    """failure: (number of the request, kind): "500" does nothing, "cut" hangs up before doing
    anything, "lost" afterwards. denied: all requests are."""

    def __init__(self):
        self.requests, self.failure, self.denied = 0, None, False
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(self, environ, start_response):
        with self._lock:
            number, self.requests = self.requests, self.requests + 1
        kind = self.failure[1] if self.failure and self.failure[0] == number else None
        environ["wsgi.input"] = io.BytesIO(
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        )
        if self.denied:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"]
        if kind == "500":
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>x</Message></Error>"]
        if kind == "cut":
            environ["werkzeug.socket"].shutdown(2)
            raise ConnectionResetError
        answer = self._app(environ, start_response)
        if kind == "lost":
            list(answer)
            environ["werkzeug.socket"].shutdown(2)
            raise ConnectionResetError
        return answer

    def _client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="s3cret",
        )

    def contents(self):
        """Content by key."""
        client = self._client()
        found = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {
            one["Key"]: client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()
            for one in found
        }

    def clear(self):
        """Empties the bucket and counts anew."""
        self.failure, client = None, self._client()
        for key in self.contents():
            client.delete_object(Bucket=BUCKET, Key=key)
        self.requests = 0


@contextmanager
def serve_s3():
    """Serves a bucket; yields the server, with its `url`."""
    s3 = S3()
    server = make_server("127.0.0.1", 0, s3, threaded=True, request_handler=_Quiet)
    s3.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        s3._client().create_bucket(Bucket=BUCKET)
        s3._client().put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(_PUBLIC))
        s3.clear()  # moto keeps one state for all servers of a process
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
