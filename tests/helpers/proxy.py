"""A real HTTP proxy on the loopback device, which loses answers on the way."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes]
Forward = Callable[[], Answer]  # sends the request on, each time it is called
Fault = Callable[[str, Forward], Answer | None]  # of a path; None: the connection breaks


@contextmanager
def proxy(server: str, fault: Fault) -> Iterator[str]:
    """Yield the address of a proxy of a server; `fault` decides what happens to each request."""
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:
            pass

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def forward() -> Answer:
                request = urllib.request.Request(
                    server + self.path, body or None, method=self.command,
                    headers={"Content-Type": self.headers.get("Content-Type", "text/plain")})
                try:
                    with urllib.request.urlopen(request) as answer:
                        return answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.read()

            answer = fault(self.path, forward)
            self.close_connection = True
            if answer is None:
                return
            self.send_response(answer[0])
            if answer[0] == 503:
                self.send_header("Retry-After", "3600")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        do_GET = do_POST = do_PUT = do_PATCH = _handle

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def first_create(fault: str) -> Fault:
    """Let something happen to the first request that creates a run: "reset", "500" or "double"."""
    seen = threading.Event()

    def apply(path: str, forward: Forward) -> Answer | None:
        answer = forward()
        if not path.endswith("/runs/create") or seen.is_set():
            return answer
        seen.set()
        if fault == "double":
            time.sleep(0.01)
            return forward()
        return None if fault == "reset" else (500, b"{}")

    return apply
