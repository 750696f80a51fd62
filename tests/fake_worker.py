"""Stands in for a worker's process in tests of VISION_WORKERS: small and quick, and it does what files tell it.

In VISION_HOME: `NAME.exits` holds the exit code with which NAME ends at once; `NAME.blocked` makes its health pages say
503; while `NAME.slow` is there, it takes its time to end. Its metrics have a sample with its name. Not a test.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

NAME = os.environ["VISION_WORKER_ID"]
HOME = Path(os.environ["VISION_HOME"])


def told(what: str) -> str | None:
    file = HOME / f"{NAME}.{what}"
    return file.read_text() if file.exists() else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/readyz", "/healthz"):
            reason = told("blocked")
            alive: dict[str, object] = (
                {"status": "alive"} if path == "/healthz" else {"status": "ready", "waiting_for": {}}
            )
            self._send(503 if reason else 200, alive | ({"status": "not_ready", "reason": reason} if reason else {}))
        elif path == "/metrics":
            text = f'# HELP vision_ready 1\n# TYPE vision_ready gauge\nvision_ready 1.0\nof_one{{name="{NAME}"}} 2\n'
            self._send(200, text.encode(), "text/plain")
        elif path == "/stream":
            self._stream()
        elif path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        elif path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self._echo()

    def do_POST(self) -> None:
        if self.path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        self._echo()

    do_HEAD = do_PUT = do_DELETE = do_POST

    def _echo(self) -> None:
        """What arrived, and two cookies."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        heard = {"name": NAME, "pid": os.getpid(), "method": self.command, "path": self.path, "body": body}
        self._send(207, heard | {"headers": [list(item) for item in self.headers.items()]})

    def _send(self, status: int, body: dict[str, object] | bytes, kind: str = "application/json") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _stream(self) -> None:
        """A chunk at once, then one more whenever the file `NAME.chunk` appears. Ends when its reader has gone."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"7\r\nnews: 1\r\n")
                while (text := told("chunk")) is None:
                    self.wfile.write(b"1\r\n:\r\n")
                    time.sleep(0.05)
                (HOME / f"{NAME}.chunk").unlink()
                if text == "end":
                    self.wfile.write(b"0\r\n\r\n")
                    return
        except OSError:
            (HOME / f"{NAME}.left").touch()

    def log_message(self, format: str, *args: object) -> None: ...


def end(*_: object) -> None:
    while told("slow"):
        time.sleep(0.05)
    print(json.dumps({"event": "stopped", "worker": NAME}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    print(json.dumps({"event": "started", "worker": NAME, "pid": os.getpid()}), flush=True)
    if (code := told("exits")) is not None:
        sys.exit(int(code))
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for host, variable in (("VISION_API_HOST", "VISION_API_PORT"), ("METRICS_HOST", "METRICS_PORT")):
        address = (os.environ[host], int(os.environ[variable]))
        server = http.server.ThreadingHTTPServer(address, Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()
