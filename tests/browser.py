"""A headless Chromium over DevTools' pipe: no package, no port, no driver."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")
FLAGS += ("--no-first-run", "--remote-debugging-pipe", "--hide-scrollbars")
SECONDS = 60
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), " ": (32, " ")}


class Browser:
    """One page, with what it logged and asked for."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read, self.buffer = write, read, b""
        self.count, self.events, self.session = 0, [], None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol and its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        os.write(self.write, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            received = os.read(self.read, 1 << 20)
            assert received, "the browser is gone"
            self.buffer += received
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def attach(self) -> None:
        """Opens an empty tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def open(self, path: Path, width: int = 1400, scheme: str = "light", fragment: str = "") -> None:
        """Loads a file at a window's width, under a preferred colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri() + fragment)
        self.wait("location.protocol === 'file:' && document.readyState === 'complete'")

    def visit(self, address: str) -> None:
        """Loads what a server shows."""
        self.call("Page.navigate", url=address)
        self.wait("document.body !== null && document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done.get("exceptionDetails")
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def hover(self, selector: str) -> tuple[float, float]:
        """Moves the mouse to where the first such element is; returns that place."""
        find = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{find}.scrollIntoView({{block: 'center', inline: 'center'}})")
        self.run(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )  # events of scrolling are over
        box = self.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({find}.getBoundingClientRect())")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        return box[0], box[1]

    def click(self, selector: str) -> None:
        """Clicks with the mouse where the first such element is."""
        box = self.hover(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        code, text = KEYS[key]
        press = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **press, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **press)

    def choose(self, selector: str, value: str) -> None:
        """Sets a select or an input, as a user does."""
        find = f"document.querySelector({json.dumps(selector)})"
        self.run(
            f"{find}.value = {json.dumps(value)}; for (const kind of ['input', 'change']) "
            f"{find}.dispatchEvent(new Event(kind, {{bubbles: true}}))"
        )

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened."""
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[dict[str, Any]]:
        """What was logged as an error or a warning, or thrown."""
        self.run("1")
        logged = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event["params"] for event in self.events if event.get("method") in logged]

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    (inward, write), (read, outward) = os.pipe(), os.pipe()

    def descriptors() -> None:
        os.dup2(inward, 13)  # first out of the way of each other
        os.dup2(outward, 14)
        os.dup2(13, 3)
        os.dup2(14, 4)

    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, preexec_fn=descriptors, pass_fds=(3, 4), **quiet)
    os.close(inward)
    os.close(outward)
    try:
        browser = Browser(write, read)
        browser.attach()
        yield browser
    finally:
        os.close(write)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(read)
