"""Chromium without a window, driven over a pipe: no sockets, and no library."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")


class Browser:
    """A page in a browser of its own.

    Attributes
    ----------
    events : everything the browser told about the page, such as messages of its console.
    """

    def __init__(self, folder):
        program = next(filter(None, map(shutil.which, _NAMES)), None)
        if program is None:
            pytest.skip("needs Chromium, which is not installed: apt-get install chromium")
        ours, theirs = os.pipe(), os.pipe()

        def place():
            # The browser reads from file 3 and writes to file 4.
            low, high = os.dup(ours[0]), os.dup(theirs[1])
            os.dup2(low, 3)
            os.dup2(high, 4)

        # preexec_fn runs after fork, where the numbers 3 and 4 can be given.
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={folder}"], preexec_fn=place, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = os.fdopen(ours[1], "wb", 0), os.fdopen(theirs[0], "rb")
        self._rest, self._number, self._session, self.events = b"", 0, None, []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._to.close()
        self._from.close()

    def __call__(self, method, **parameters):
        """A command of the DevTools protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            more = os.read(self._from.fileno(), 1 << 16)
            if not more:
                raise RuntimeError("the browser has gone")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def open(self, path):
        """Load a file and wait until it is there."""
        self.go(Path(path).as_uri())

    def go(self, address):
        """Load a page and wait until it is there."""
        self.events.clear()
        self("Page.navigate", url=address)
        self._loaded()

    def submit(self, script):
        """Run a script that leads to another page, and wait until that is there."""
        self.events.clear()
        self.value(script)
        self._loaded()

    def _loaded(self):
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self._next())

    def value(self, script):
        """What a script in the page gives, awaited."""
        found = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    @property
    def complaints(self):
        """Errors that the console shows: of scripts, of policies, of loading."""
        self.value("0")
        found = [each["params"] for each in self.events if each.get("method") == "Log.entryAdded"]
        thrown = [each["params"] for each in self.events if each.get("method") == "Runtime.exceptionThrown"]
        return [each["entry"]["text"] for each in found if each["entry"]["level"] == "error"] + thrown

    @property
    def requests(self):
        """Addresses that were asked for; what a policy stopped never left."""
        told = [(each.get("method"), each.get("params", {})) for each in self.events]
        stopped = {given["requestId"] for name, given in told
                   if name == "Network.loadingFailed" and given.get("blockedReason") == "csp"}  # fmt: skip
        return [given["request"]["url"] for name, given in told
                if name == "Network.requestWillBeSent" and given["requestId"] not in stopped]  # fmt: skip


def violations(browser):
    """What axe-core finds in the open page: rule, number of places, the first of them."""
    axe = os.environ.get("AXE_CORE")
    if not axe or not Path(axe).is_file():
        pytest.skip("needs axe-core: AXE_CORE=axe.min.js, of the package axe-core from npm")
    # DevTools are not subject to the policy of the page.
    browser.value(Path(axe).read_text(encoding="utf-8") + "; 0")
    return browser.value(
        "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.length, v.nodes[0].html]))"
    )
