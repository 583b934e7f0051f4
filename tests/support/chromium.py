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
    """One tab and its workers.

    `events` are all that came while commands were waited for, as (method, params).
    """

    def __init__(self, commands, reports):
        self.events = []
        self._commands, self._reports = commands, reports
        self._numbers = count(1)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self._watch(self._session)

    def call(self, method, **params):
        """Sends a command and returns its result."""
        number = self._send(self._session, method, **params)
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _send(self, session, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        return number

    def _watch(self, session):
        """Has a tab or worker report; workers that it starts wait until they are watched, too."""
        for domain in ("Runtime", "Log", "Network"):
            self._send(session, f"{domain}.enable")
        attach = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        self._send(session, "Target.setAutoAttach", **attach)
        self._send(session, "Runtime.runIfWaitingForDebugger")

    def _note(self, answer):
        if "method" not in answer:
            return  # of a command that nobody waits for
        self.events.append((answer["method"], answer["params"]))
        if answer["method"] == "Target.attachedToTarget":
            self._watch(answer["params"]["sessionId"])

    def open(self, url, width=1280, height=800):
        """Opens a page and waits until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for_event("Page.loadEventFired")

    def wait_for_event(self, method):
        """The parameters of the next event of this kind, or of one that came before."""
        while not (found := [params for name, params in self.events if name == method]):
            self._note(self._next())
        return found[-1]

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page, of a promise when it has one."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_until(self, condition, seconds=120):
        """Waits until a JavaScript condition holds in the page; returns whether it did."""
        return self.evaluate(f"""new Promise(done => {{
            const end = performance.now() + {1000 * seconds};
            const look = () => {{
                const holds = Boolean({condition});
                if (holds || performance.now() > end) done(holds);
                else setTimeout(look, 20);
            }};
            look();
        }})""")

    def choose_files(self, element_id, *paths):
        """Chooses files in an <input type="file">, or a folder."""
        found = self.call("Runtime.evaluate", expression=f"document.getElementById('{element_id}')")
        self.call(
            "DOM.setFileInputFiles",
            files=[str(path) for path in paths],
            objectId=found["result"]["objectId"],
        )

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
def chromium(profile, *flags):
    """A tab of a fresh Chromium whose profile is in the folder `profile`."""
    their_commands, commands = os.pipe()
    reports, their_reports = os.pipe()

    def as_3_and_4():
        # Copies first: one of the pipes may itself be number 3 or 4.
        first, second = os.dup(their_commands), os.dup(their_reports)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}"],
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
