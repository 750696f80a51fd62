"""Stands in for the worker in tests of the supervisor: answers /readyz with 200 and ends on SIGTERM. Not a test."""

from __future__ import annotations

import http.server
import os
import signal
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
        self.wfile.write(os.environ["VISION_WORKER_ID"].encode())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    http.server.HTTPServer(("127.0.0.1", int(os.environ["VISION_API_PORT"])), Handler).serve_forever()
