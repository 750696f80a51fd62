"""A real nginx for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import installed, serving

CONFIGURATION = """
daemon off;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {sites}
}}
"""


@contextmanager
def nginx(folder: Path, port: int, sites: str) -> Iterator[None]:
    """nginx with these `server` blocks, one of which listens on `port`. Skips the test where it is not installed."""
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, sites=sites))
    with serving([installed("nginx"), "-p", str(folder), "-c", str(configuration)], port, folder / "nginx.log"):
        yield
