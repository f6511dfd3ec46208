"""A real browser for tests and screenshots: headless Chromium, driven over its DevTools pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-breakpad", "--disable-dev-shm-usage", "--hide-scrollbars",
    # Nothing but this machine: what a page fetches from elsewhere would make its look vary.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe",
]


class Browser:
    """One page of a Chromium of its own. Use it with `with`, which ends its processes.

    The pipe (messages end with a NUL byte) needs no port and no web socket, and Chromium leaves by
    itself when it closes, even if we are killed.

    Args:
        size: Width and height of the page in CSS pixels.
        setup: JavaScript that runs in every document before its own.
    """

    def __init__(self, size: tuple[int, int] = (1500, 1000), setup: str = "") -> None:
        chromium = shutil.which("chromium")
        if chromium is None:
            raise FileNotFoundError("no `chromium` on the PATH")
        self._profile = tempfile.mkdtemp(prefix="gan-bench-chromium-")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._process = subprocess.Popen(  # Chromium reads file 3 and writes file 4
            ["sh", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "sh", chromium, *FLAGS,
             f"--user-data-dir={self._profile}", f"--window-size={size[0]},{size[1]}"],
            pass_fds=(theirs_in, theirs_out), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = bytearray()
        self._sent = 0
        self._session: str | None = None
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target,
                                      flatten=True)["sessionId"]
            self.call("Page.enable")
            self.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1],
                      deviceScaleFactor=1, mobile=False)
            self.call("Page.addScriptToEvaluateOnNewDocument", source=setup)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End Chromium and all its processes, and remove its profile."""
        os.close(self._out)
        os.close(self._in)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, *, seconds: float = 30, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result.

        Raises:
            RuntimeError: Chromium refused it, or ended.
            TimeoutError: There was no answer in time.
        """
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            answer = self._receive(method, deadline)
            if answer.get("id") == self._sent:  # all else are events, and late answers
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self, what: str, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError(f"Chromium did not answer {what}")
            chunk = os.read(self._in, 1 << 16)
            if not chunk:
                raise RuntimeError(f"Chromium ended at {what}")
            self._buffer += chunk
        raw, _, rest = self._buffer.partition(b"\0")
        self._buffer = rest
        message: dict[str, Any] = json.loads(raw)
        return message

    def open(self, url: str) -> None:
        """Load an address anew, even if only what follows its `#` differs."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """Evaluate JavaScript in the page and return its value; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def text(self) -> str:
        """Return the text that the page shows."""
        return str(self.js("document.body ? document.body.innerText : ''"))

    def wait(self, expression: str, seconds: float = 30,
             until: Callable[[Any], object] = bool) -> Any:
        """Evaluate JavaScript until its value satisfies `until`, and return the value.

        Raises:
            TimeoutError: It did not in time; the message quotes what the page shows.
        """
        deadline = time.monotonic() + seconds
        while True:
            value = self.js(expression)
            if until(value):
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression!r} stayed {value!r} on a page that shows:\n"
                                   f"{self.text()[:2000]}")
            time.sleep(0.25)

    def press(self, key: str, code: int) -> None:
        """Press a key on what has the focus, e.g. `press("End", 35)`."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code)

    def screenshot(self, file: Path) -> None:
        """Write what the page shows as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))
