"""The variables that a child process gets: an allow-list, so that no child gets other programs' passwords and tokens.

A service gets the variables that any program needs and its own (`Service.environment`). Only a worker also gets the
settings and the variables for the network: proxies and certificates.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from vision_app.settings import every_variable

PLAIN = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONWARNINGS"),
        *("VIRTUAL_ENV", "NO_COLOR", "COVERAGE_PROCESS_START", "TESSDATA_PREFIX", "MALLOC_ARENA_MAX"),
    }
)
PLAIN_PREFIX = "LC_"
OF_A_WORKER = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
        *("PYTHONASYNCIODEBUG", "PYTHONFAULTHANDLER"),
    }
)
WORKERS_PREFIXES = ("VISION_", "OTEL_")
"""Some of our variables are not settings: VISION_HOME, VISION_WORKER_ID and those of the crash suite. Traces' library
reads variables of its own.
"""


def plain(inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that any program may get; by default from this process' environment."""
    given = os.environ if inherited is None else inherited
    return {name: value for name, value in given.items() if name in PLAIN or name.startswith(PLAIN_PREFIX)}


def of_a_worker(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that any program may get, the settings, proxies and certificates."""
    allowed = every_variable() | OF_A_WORKER
    ours = {
        name: value
        for name, value in inherited.items()
        if name.upper() in allowed or name.upper().startswith(WORKERS_PREFIXES)
    }
    return plain(inherited) | ours
