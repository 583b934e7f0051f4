"""A server on loopback that behaves as GitHub's releases do, and fails on demand."""

import hashlib
import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from loopback import serving

TOKEN = "t0ken-of-the-tests"
REPOSITORY = "somebody/models"
PAGE = 100


class Github:
    """What the server holds, and its next failure.

    releases: by id. failure: (number of the request, kind); kinds: "500" does nothing, "502" does
    what was asked and says it failed, "cut" closes the connection before doing anything, "lost"
    afterwards, "slow" answers too late, "limit" asks for patience, "half" breaks off in the middle
    of a content, "exists" says that the asset is there already.
    """

    def __init__(self):
        self.releases, self.requests, self.failure = {}, [], None
        self.push, self.digests, self.published = True, True, 0
        self.ids = iter(range(1, 10_000))

    def assets(self):
        """Content by name of the one release that there is."""
        (release,) = self.releases.values()
        assert all(asset["state"] == "uploaded" for asset in release["assets"].values())
        return {asset["name"]: asset["content"] for asset in release["assets"].values()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet: no waiting for acknowledgements

    def log_message(self, *args):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _handle(self):
        github, url = self.server.github, urlsplit(self.path)
        number = len(github.requests)
        github.requests.append(f"{self.command} {url.path}")
        kind = github.failure[1] if github.failure and github.failure[0] == number else None
        if kind == "cut":
            self._hang_up()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        uploading = url.path.startswith("/upload/")
        if kind == "500":
            self._answer(500, {"message": "Server Error"})
            return
        if kind == "limit":
            headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()))}
            self._answer(403, {"message": "API rate limit exceeded"}, headers)
            return
        if kind == "exists" and uploading:
            document = {"message": "Validation Failed", "errors": [{"code": "already_exists"}]}
            self._answer(422, document)
            return
        if url.path.startswith(("/storage/", f"/{REPOSITORY}/releases/download/")):
            self._answer(*self._download(url.path))
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"message": "Bad credentials"})
            return
        if kind == "502" and uploading:  # as GitHub does: what remains is in the way
            self._upload(url, body, state="starter")
            self._answer(502, {"message": "Server Error"})
            return
        status, answer = self._route(url, body)
        if kind == "lost":
            self._hang_up()
            return
        if kind == "slow":
            time.sleep(0.6)
        if kind == "502":
            status, answer = 502, {"message": "Server Error"}
        self._answer(status, answer, half=kind == "half")

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _hang_up(self):
        self.close_connection = True
        self.connection.shutdown(2)

    def _answer(self, status, answer, headers=None, *, half=False):
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        content = b"" if status == 204 else content
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if half:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self._hang_up()
            return
        self.wfile.write(content)

    def _route(self, url, body):
        github, base = self.server.github, f"/repos/{REPOSITORY}"
        if url.path.startswith("/upload/"):
            return self._upload(url, body, state="uploaded")
        if not url.path.startswith(base):
            return 404, {"message": "Not Found"}
        parts = url.path.removeprefix(base).strip("/").split("/")
        match self.command, parts:
            case "GET", [""]:
                return 200, {"permissions": {"push": github.push}}
            case "GET", ["releases"]:
                return 200, self._page(url, [self._shown(r) for r in github.releases.values()])
            case "POST", ["releases"]:
                release = {"id": next(github.ids), "assets": {}, **json.loads(body)}
                github.releases[release["id"]] = release
                return 201, self._shown(release)
            case "GET", ["releases", number, "assets"]:
                assets = github.releases[int(number)]["assets"].values()
                return 200, self._page(url, [self._asset(asset) for asset in assets])
            case "PATCH", ["releases", number]:
                release = github.releases[int(number)]
                github.published += release["draft"] and not json.loads(body)["draft"]
                release.update(json.loads(body))
                return 200, self._shown(release)
            case "GET" | "DELETE", ["releases", "assets", number]:
                for release in github.releases.values():
                    if asset := release["assets"].get(int(number)):
                        if self.command == "GET":
                            return 200, asset["content"]
                        del release["assets"][int(number)]
                        return 204, {}
        return 404, {"message": "Not Found"}

    def _download(self, path):
        """What everybody may: an asset of a published release, which lies at another address."""
        *_, tag, name = path.split("/")
        for release in self.server.github.releases.values():
            if release["tag_name"] == tag and not release["draft"]:
                for asset in release["assets"].values():
                    if asset["name"] == name and path.startswith("/storage/"):
                        return 200, asset["content"]
                    if asset["name"] == name:
                        return 302, b"", {"Location": f"/storage/{tag}/{name}"}
        return 404, {"message": "Not Found"}

    def _upload(self, url, body, state):
        github = self.server.github
        release = github.releases[int(url.path.split("/")[-2])]
        (name,) = parse_qs(url.query)["name"]
        if any(asset["name"] == name for asset in release["assets"].values()):
            return 422, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]}
        number = next(github.ids)
        asset = {"id": number, "name": name, "state": state, "content": body}
        release["assets"][number] = asset
        return 201, self._asset(asset)

    def _asset(self, asset):
        content = asset["content"]
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {
            **{key: asset[key] for key in ("id", "name", "state")},
            "size": len(content),
            "digest": digest if self.server.github.digests else None,
        }

    def _shown(self, release):
        host = f"http://{self.headers['Host']}"
        upload_url = f"{host}/upload/releases/{release['id']}/assets{{?name,label}}"
        return {
            "upload_url": upload_url,
            **{key: release[key] for key in ("id", "tag_name", "draft")},
        }

    def _page(self, url, rows):
        page = int(parse_qs(url.query)["page"][0])
        return rows[(page - 1) * PAGE : page * PAGE]


@contextmanager
def serve_github():
    """Serves; yields what the server holds, with its `url`."""
    with serving(_Handler) as server:
        server.github = github = Github()
        github.url = server.url
        yield github
