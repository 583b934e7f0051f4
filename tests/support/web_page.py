"""The web page as a person sees and uses it, in a headless Chromium."""

import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from chromium import needs_chromium
from cigpose_runtime.web.engine import engine_files
from cigpose_runtime.web.folder import read_folder
from cigpose_runtime.web.server import WebServer, page_files
from loopback import serving

ENGINE = Path(__file__).resolve().parents[2] / "runtime/examples/node_modules/onnxruntime-web"

NO_GPU = "No available adapters."
"""What Chromium itself warns of where a page asks for WebGPU and there is no GPU."""

needs_the_page = [
    needs_chromium,
    pytest.mark.skipif(
        not ENGINE.is_dir(),
        reason="no onnxruntime-web: npm ci --ignore-scripts --prefix runtime/examples",
    ),
]


@contextmanager
def served(folder, port=0, stubs=None):
    """Serves a folder; yields the page's address. stubs: by name, in the place of its own files."""
    files = {**page_files(engine_files(ENGINE), read_folder(folder)), **(stubs or {})}
    with WebServer(port, files) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            yield server.url
        finally:
            server.shutdown()


@contextmanager
def any_server(site):
    """Serves a written site, as servers do that know nothing of it; yields its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    with serving(partial(Handler, directory=site)) as server:
        yield f"{server.url}/"


class Web:
    """The page, as a person sees and uses it."""

    def __init__(self, browser, url, tmp_path):
        self.browser, self.url, self.downloads = browser, url, tmp_path
        browser.open(url)
        assert browser.wait_until("document.querySelector('#models')")
        behaviour = {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": True}
        browser.call("Browser.setDownloadBehavior", **behaviour)

    def do(self, code):
        return self.browser.evaluate(code)

    def click(self, element_id):
        found = f"document.getElementById('{element_id}')"
        assert self.browser.wait_until(f"!{found}.hidden && !{found}.disabled"), element_id
        self.do(f"document.getElementById('{element_id}').click()")

    def choose(self, element_id, text):
        """Chooses the option of a <select> that begins with the text."""
        assert self.browser.wait_until(
            f"[...document.getElementById('{element_id}').options]"
            f".some(o => o.text.startsWith('{text}'))"
        ), text
        self.do(f"""(() => {{
            const select = document.getElementById('{element_id}');
            select.value = [...select.options].find(o => o.text.startsWith('{text}')).value;
            select.dispatchEvent(new Event('change'));
        }})()""")

    def people(self, kind):
        self.do(f"document.querySelector('[name=people][value={kind}]').click()")

    def wait_for_status(self, text):
        assert self.browser.wait_until(
            f"document.getElementById('status').textContent.includes({json.dumps(text)})"
        ), self.do("document.getElementById('status').textContent")

    def wait_for_people(self, count):
        assert self.browser.wait_until(
            f"document.getElementById('count').textContent === '{count}'"
        ), self.do("document.getElementById('status').textContent")

    def results(self):
        """The lines of the file that the page saves."""
        path = self.downloads / "poses.jsonl"
        path.unlink(missing_ok=True)
        name = "Browser.downloadProgress"
        self.forget(name)
        self.click("save")
        while self.browser.wait_for_event(name)["state"] != "completed":
            self.forget(name)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def forget(self, name):
        self.browser.events = [event for event in self.browser.events if event[0] != name]

    def complaints(self):
        entries = [c for c in self.browser.complaints if c.get("text") != NO_GPU]
        foreign = [
            u for u in self.browser.requests if not u.startswith((self.url, "blob:", "data:"))
        ]
        return entries, foreign
