"""A server on loopback that behaves as Hugging Face does for one model repository."""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from loopback import serving

TOKEN = "hf_of_the_tests"
REPOSITORY = "somebody/models"
COMMIT = "0" * 40
LARGE = 1000
"""Files of as many bytes go to large-file storage."""


class Hub:
    """main: content by path, None before the repository is made. tags: a copy of it by tag.
    large: the large-file storage, by sha256. fail_on: part of the request whose next one fails."""

    def __init__(self):
        self.main, self.tags, self.large = None, {}, {}
        self.commits, self.requests, self.fail_on = 0, [], None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *args):
        pass

    def _handle(self):
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append(f"{self.command} {path}")
        if hub.fail_on and hub.fail_on in hub.requests[-1]:
            hub.fail_on = None
            self._answer(500, {})
        elif path.startswith("/storage/"):
            hub.large[path.rpartition("/")[2]] = body
            self._answer(200, {})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self._is_public(path):
            self._answer(401, {"error": "Invalid credentials"})
        else:
            self._answer(*self._route(hub, path, body))

    def _is_public(self, path):
        """What a download asks for."""
        api = f"/api/models/{REPOSITORY}"
        pages = f"{api}/revision/", f"{api}/tree/", f"/{REPOSITORY}/resolve/"
        return self.command in ("GET", "HEAD") and path.startswith(pages)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _answer(self, status, document, headers=None):
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, hub, path, body):
        api = f"/api/models/{REPOSITORY}"
        if path == "/api/whoami-v2":
            return 200, {"name": "somebody", "type": "user"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            hub.main = {".gitattributes": b"*.onnx filter=lfs\n"} if hub.main is None else hub.main
            return 200, {"url": f"http://{self.headers['Host']}/{REPOSITORY}"}
        if hub.main is None:
            return 404, {"error": "Not Found"}, {"X-Error-Code": "RepoNotFound"}
        if path == f"{api}/auth-check/write":
            return 200, {}
        if path == f"{api}/refs":
            tags = [_ref(tag, f"refs/tags/{tag}") for tag in hub.tags]
            branches = [_ref("main", "refs/heads/main")]
            return 200, {"branches": branches, "converts": [], "tags": tags}
        if path.startswith(f"{api}/revision/"):
            files = [{"rfilename": name} for name in self._at(path.split("/")[-1])]
            return 200, {"id": REPOSITORY, "sha": COMMIT, "siblings": files}
        if path.startswith(f"{api}/tree/"):
            return 200, [_entry(p, c) for p, c in self._at(path.split("/")[-1]).items()]
        if path.startswith(f"{api}/preupload/"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._object(o) for o in _objects(body)]}
        if path == f"{api}/commit/main":
            return self._commit(hub, body)
        if path.startswith(f"{api}/tag/"):
            return self._tag(hub, path.rpartition("/")[2], body)
        if path.startswith(f"/{REPOSITORY}/resolve/"):
            revision, _, name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")
            content = self._at(revision).get(name)
            if content is None:
                return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}
            etag = hashlib.sha256(content).hexdigest()
            return 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        return 404, {"error": f"no route {self.command} {path}"}

    def _at(self, revision):
        hub = self.server.hub
        return hub.main if revision in ("main", COMMIT) else hub.tags[revision]

    def _object(self, one):
        if one["oid"] in self.server.hub.large:
            return one
        href = f"http://{self.headers['Host']}/storage/{one['oid']}"
        return {**one, "actions": {"upload": {"href": href}}}

    def _commit(self, hub, body):
        changed = dict(hub.main)
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                changed[value["path"]] = hub.large[value["oid"]]
            elif operation["key"] == "deletedFile":
                del changed[value["path"]]
        hub.main, hub.commits = changed, hub.commits + 1
        url = f"http://{self.headers['Host']}/{REPOSITORY}/commit/{COMMIT}"
        return 200, {"commitUrl": url, "commitOid": COMMIT, "success": True}

    def _tag(self, hub, name, body):
        if self.command == "DELETE":
            del hub.tags[name]
        else:
            hub.tags[json.loads(body)["tag"]] = dict(hub.main)
        return 200, {}


def _objects(body):
    return json.loads(body)["objects"]


def _ref(name, ref):
    return {"name": name, "ref": ref, "targetCommit": COMMIT}


def _entry(path, content):
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if len(content) >= LARGE:
        oid = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
    return entry


@contextmanager
def serve_hub():
    """Serves; yields what the server holds, with its `url`."""
    with serving(_Handler) as server:
        server.hub = hub = Hub()
        hub.url = server.url
        yield hub
