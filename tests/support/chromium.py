"""Headless Chromium over its DevTools pipe: what a page says, asks for and complains about."""

import contextlib
import json
import os
import shutil
import subprocess
from itertools import count

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (on Debian: apt-get install chromium)"
)

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]


class Page:
    """One tab. `events` are all that came while commands were waited for, as (method, params)."""

    def __init__(self, commands, reports):
        self.events = []
        self._commands, self._reports = commands, reports
        self._numbers = count(1)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Sends a command and returns its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._next()).get("id") != number:
            self.events.append((answer["method"], answer["params"]))
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url, width=1280, height=800):
        """Opens a page and waits until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Page.navigate", url=url)
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            answer = self._next()
            self.events.append((answer["method"], answer["params"]))

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"][
            "value"
        ]

    @property
    def requests(self):
        """The addresses that the page asked for, its own included."""
        return [p["request"]["url"] for m, p in self.events if m == "Network.requestWillBeSent"]

    @property
    def complaints(self):
        """Errors and warnings of the console, and exceptions."""
        complaints = [p for m, p in self.events if m == "Runtime.exceptionThrown"]
        complaints += [p["entry"] for m, p in self.events if m == "Log.entryAdded"]
        return complaints + [
            p
            for m, p in self.events
            if m == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert")
        ]

    def _next(self):
        message = bytearray()
        while (byte := self._reports.read(1)) != b"\0":
            if not byte:
                raise EOFError("Chromium has ended")
            message += byte
        return json.loads(message)


@contextlib.contextmanager
def chromium(profile):
    """A tab of a fresh Chromium whose profile is in the folder `profile`."""
    their_commands, commands = os.pipe()
    reports, their_reports = os.pipe()

    def as_3_and_4():
        # Copies first: one of the pipes may itself be number 3 or 4.
        first, second = os.dup(their_commands), os.dup(their_reports)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
        preexec_fn=as_3_and_4,  # noqa: PLW1509 - nothing else gives a child descriptor 3
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_commands)
    os.close(their_reports)
    with os.fdopen(commands, "wb") as to_it, os.fdopen(reports, "rb") as from_it:
        try:
            page = Page(to_it, from_it)
            yield page
        finally:
            process.terminate()
            process.wait(timeout=30)
