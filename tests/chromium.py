"""Drives a headless Chromium over two pipes, with its DevTools protocol and no other package."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARRANGE = """
import os, sys
kept = [os.dup2(int(pipe), 100 + place) for place, pipe in enumerate(sys.argv[1:3])]
for place, pipe in enumerate(kept):
    os.dup2(pipe, 3 + place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium():
    """Returns the path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser with one page; a context manager.

    Args:
        profile: The folder of the browser's profile.
        width, height: The size of the window, in pixels.
        switches: More switches of Chromium's command line.

    Attributes:
        requests: The addresses of all that the page asked for.
        errors: The exceptions that its scripts did not catch.
    """

    def __init__(self, profile, width=1280, height=1200, switches=()):
        self.requests, self.errors = [], []
        self._numbers = itertools.count(1)
        self._rest = b""
        self._from, their_output = os.pipe()
        their_input, self._to = os.pipe()
        command = [
            find_chromium(),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            *switches,
            "about:blank",
        ]
        # Chromium reads commands from 3 and answers on 4. Another Python arranges that: what this
        # one would do between fork and exec may deadlock, since backends have threads.
        pipes = (their_input, their_output)
        self._process = subprocess.Popen(
            [sys.executable, "-Sc", ARRANGE, *map(str, pipes), *command],
            pass_fds=pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_output), os.close(their_input)
        os.set_blocking(self._from, False)
        self._session = None
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._send("Browser.close", {}, session=None)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to), os.close(self._from)

    def call(self, method, **parameters):
        """Calls a method of the protocol and returns its result."""
        number = self._send(method, parameters, self._session)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for message in self._receive():
                if message.get("id") == number:
                    assert "error" not in message, message["error"]
                    return message["result"]
        raise TimeoutError(f"Chromium did not answer to {method}.")

    def open(self, address):
        self.call("Page.navigate", url=address)

    def evaluate(self, script):
        """Runs JavaScript in the page; returns its value, or that of a promise."""
        result = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, script, seconds=60):
        """Waits until JavaScript is true in the page; returns its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.evaluate(script):
                return value
            time.sleep(0.1)
        text = self.evaluate("document.body.innerText")
        raise AssertionError(f"{script} was not true within {seconds} s. The page says:\n{text}")

    def click(self, element):
        """Clicks with the mouse on an element that JavaScript names, once it is there."""
        self.wait_for(f"{element} != null")
        x, y = self.evaluate(
            f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); "
            "const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose_file(self, selector, path):
        """Gives a file to an input of the page, as a user who picks it."""
        root = self.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert node, f"The page has no {selector}."
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def screenshot(self, path):
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _send(self, method, parameters, session):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return number

    def _receive(self):
        """Returns the messages that have come, keeping what tests ask about."""
        try:
            self._rest += os.read(self._from, 1 << 20)
        except BlockingIOError:
            time.sleep(0.01)
        *complete, self._rest = self._rest.split(b"\0")
        messages = [json.loads(text) for text in complete]
        for message in messages:
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"])
        return messages
