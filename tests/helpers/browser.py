"""MLflow's page as a user sees it: `gan-bench ui`, and a real Chromium driven over its pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-breakpad", "--disable-dev-shm-usage", "--hide-scrollbars",
    # Nothing but this machine: what a page fetches from elsewhere would make its look vary.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe",
]


class ScriptError(RuntimeError):
    """JavaScript threw in the page."""


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
        self._process = subprocess.Popen(  # Chromium reads file 3 and writes file 4
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 < /dev/null > /dev/null', "sh", chromium, *FLAGS,
             f"--user-data-dir={self._profile}", f"--window-size={size[0]},{size[1]}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._out, self._in = self._process.stdin.fileno(), self._process.stdout.fileno()
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
        try:
            self._process.communicate(timeout=5)  # closes the pipe
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
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
        """Evaluate JavaScript in the page and return its value; promises are awaited.

        Raises:
            ScriptError: It threw.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise ScriptError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def text(self) -> str:
        """Return the text that the page shows."""
        return str(self.js("document.body ? document.body.innerText : ''"))

    def wait(self, expression: str, seconds: float = 60,
             until: Callable[[Any], object] = bool) -> Any:
        """Evaluate JavaScript until its value satisfies `until`, and return the value.

        While it throws, e.g. because an element is not there yet, it is tried again.

        Raises:
            TimeoutError: It did not in time; the message quotes what the page shows.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = self.js(expression)
                if until(value):
                    return value
            except ScriptError as error:
                value = error
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression!r} stayed {value!r} on a page that shows:\n"
                                   f"{self.text()[:2000]}")
            time.sleep(0.25)

    def press(self, key: str, code: int) -> None:
        """Press a key on what has the focus, e.g. `press("ArrowRight", 39)`."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code)

    def screenshot(self, file: Path) -> None:
        """Write what the page shows as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def gan_bench_ui(root: Path, seconds: float = 60) -> Iterator[str]:
    """Run `gan-bench ui` on a free port, and yield the address of its server.

    Raises:
        RuntimeError: It ended, or did not answer in time; the message holds what it printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gan_bench", "ui", "--root", root, "--port", str(port)],
            stdout=log, stderr=log, start_new_session=True, env=environment)
        try:
            deadline = time.monotonic() + seconds
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"`gan-bench ui` does not answer: {log.read().decode()}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            with suppress(ProcessLookupError):  # it leads its workers' group
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def experiment_page(address: str, name: str) -> str:
    """Return the address of an experiment's runs, in MLflow's view for training runs."""
    url = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(name)}"
    with urlopen(url, timeout=30) as answer:
        number = json.load(answer)["experiment"]["experiment_id"]
    return f"{address}/#/experiments/{number}/runs?workflowType=machine_learning"


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
