"""Log lines of any logger: JSON with the trace id at top level, without secrets.

Each case runs in a separate process, because the test reads the real stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from vision_app.settings import load_settings
from vision_app.telemetry.logging import MASK, SecretMask, secret_values

PREAMBLE = """
import logging, structlog, warnings
from vision_app.settings import load_settings
from vision_app.telemetry.logging import bind, configure_logging, logging_config
settings = load_settings(**{overrides!r})
configure_logging(settings)
log = structlog.get_logger("vision_app.test")
"""

SECRETS = {
    "gigachat_client_id": "client",
    "gigachat_client_secret": "s3cret-of-gigachat",
    "database_url": "postgresql://vision:pass%40word@db.example/vision",
    "vision_api_tokens": "token-one=t1,token-two=*",
}


def stderr_of(body: str, **overrides: Any) -> str:
    code = PREAMBLE.format(overrides=overrides) + body
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def lines(body: str, **overrides: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr_of(body, **overrides).splitlines()]


def test_every_line_has_the_same_head_with_placeholders() -> None:
    ours, theirs = lines("log.info('Vision Analysis task started', n=1)\nlogging.getLogger('lib').error('bad %s', 2)")
    assert list(ours)[:7] == ["timestamp", "level", "logger", "event", "trace_id", "post_id", "tenant_id"]
    assert list(theirs)[:7] == list(ours)[:7]
    assert (ours["level"], ours["logger"], ours["event"]) == ("info", "vision_app.test", "Vision Analysis task started")
    assert (theirs["level"], theirs["logger"], theirs["event"]) == ("error", "lib", "bad 2")
    assert ours["trace_id"] == ours["post_id"] == ours["tenant_id"] == theirs["trace_id"] == "-"
    assert ours["n"] == 1
    assert ours["service"] == "vision"
    assert ours["worker"] == theirs["worker"] != ""


def test_bound_fields_are_on_our_lines_and_the_libraries_and_end_with_the_block() -> None:
    body = """
with bind(trace_id="t-1", post_id="p-1", tenant_id="арендатор"):
    with bind(media_sha256="ab", trace_id=None):
        log.info("inner")
    logging.getLogger("lib").warning("outer", extra={"delivery_count": 2})
log.info("after")
"""
    inner, outer, after = lines(body)
    identity = {"trace_id": "t-1", "post_id": "p-1", "tenant_id": "арендатор"}
    assert inner.items() >= {**identity, "media_sha256": "ab"}.items()
    assert outer.items() >= {**identity, "delivery_count": 2}.items()
    assert "media_sha256" not in outer
    assert after["trace_id"] == "-"


def test_tasks_do_not_see_each_others_binding() -> None:
    body = """
import asyncio
async def handle(trace, mine, other):
    with bind(trace_id=trace):
        mine.set(); await other.wait()
        log.info(trace)
async def main():
    a, b = asyncio.Event(), asyncio.Event()
    await asyncio.gather(handle("t-1", a, b), handle("t-2", b, a))
asyncio.run(main())
"""
    assert all(line["trace_id"] == line["event"] for line in lines(body))


def test_an_exception_is_a_field_without_local_variables() -> None:
    body = """
def fails():
    local_value = "picture-bytes"
    raise ValueError("broken")
try:
    fails()
except ValueError:
    log.exception("Unexpected"); logging.getLogger("lib").exception("Unexpected")
"""
    found = lines(body)
    assert len(found) == 2
    for line in found:
        assert line["exception"][0]["exc_type"] == "ValueError"
        assert line["exception"][0]["exc_value"] == "broken"
        assert "picture-bytes" not in json.dumps(line)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_reach_no_line_in_no_form(log_format: str) -> None:
    body = """
import base64
basic = base64.b64encode(b"client:s3cret-of-gigachat").decode()
log.info("text s3cret-of-gigachat", nested={"k": ["token-one", b"token-two"]}, header="Basic " + basic)
log.warning("url", url="postgresql://vision:pass%40word@db.example/vision")
logging.getLogger("lib").error("args %s", "pass@word", extra={"k": ("token-one",)})
try:
    raise ValueError("token-two")
except ValueError:
    log.exception("failed")
"""
    output = stderr_of(body, log_format=log_format, **SECRETS)
    for secret in ("s3cret-of-gigachat", "token-one", "token-two", "pass@word", "pass%40word", "Y2xpZW50"):
        assert secret not in output
    assert output.count(MASK) >= 7
    assert "db.example" in output


def test_values_json_has_no_form_for_are_written_as_text() -> None:
    [line] = lines("log.info('x', big=1 << 80, path=__import__('pathlib').Path('/a'), s={1}, k={1: None})")
    assert (line["big"], line["path"], line["s"], line["k"]) == (1 << 80, "/a", [1], {"1": None})


def test_libraries_are_quiet_below_warning_and_levels_hold() -> None:
    body = "log.debug('a'); log.info('b'); log.warning('c')\nfor n in ('aiokafka.x', 'mode', 'botocore'): "
    body += "logging.getLogger(n).info('d'); logging.getLogger(n).warning('e')"
    assert [line["event"] for line in lines(body, log_level="WARNING")] == ["c", "e", "e", "e"]
    assert [line["event"] for line in lines(body)] == ["b", "c", "e", "e", "e"]


def test_warnings_become_lines() -> None:
    [line] = lines("warnings.warn('careful')")
    assert line["logger"] == "py.warnings"
    assert "careful" in line["event"]


def test_faust_takes_the_configuration_and_its_redirected_stdout_does_no_harm() -> None:
    body = """
from mode.utils.logging import redirect_stdouts, setup_logging
setup_logging(loglevel="INFO", logging_config=dict(logging_config(settings)))
with redirect_stdouts(logging.getLogger("mode.redirect"), severity=logging.WARNING):
    log.info("ours")
    print("printed")
logging.getLogger("faust").warning("theirs")
"""
    assert [line["event"] for line in lines(body)] == ["ours", "printed", "theirs"]


def test_secrets_are_collected_from_every_secret_setting() -> None:
    found = secret_values(load_settings(**SECRETS, s3_secret_access_key="s3-key", neo4j_password="neo"))
    assert found >= {"s3cret-of-gigachat", "pass%40word", "pass@word", "token-one", "token-two", "s3-key", "neo"}
    assert not any("db.example" in value for value in found)


def test_a_secret_inside_another_is_masked_with_it_and_tiny_ones_are_left() -> None:
    mask = SecretMask({"abcd", "abcdef", "x"})
    assert mask(None, "", {"event": "abcdef abcd x"}) == {"event": f"{MASK} {MASK} x"}
    assert SecretMask(set())(None, "", {"event": "same"}) == {"event": "same"}
