"""What `vision doctor` says of the policy file and of the room in the bucket."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from vision_app.operations.doctor import bucket, operation, policy
from vision_app.retention.accounts import Usage
from vision_app.settings import Settings
from vision_app.stack.checks import Level

GIB = 1024**3


@pytest.mark.parametrize(
    ("gigabytes", "kind", "verdict", "said"),
    [
        (3, "media", Level.OK, "3.00 of 15 GB used (20 %)"),
        (11, "media", Level.HINT, "media/ holds 11.00 of 10 GB (S3_MEDIA_MAX_GB)"),
        (14.55, "other", Level.HINT, "(97 %), above S3_EMERGENCY_THRESHOLD_GB (14)"),
        (15, "other", Level.FAILED, "uploads are refused; `vision storage cleanup --dry-run`"),
    ],
)
def test_a_full_bucket_is_told(gigabytes: float, kind: str, verdict: Level, said: str) -> None:
    finding = bucket(Settings(), Usage({kind: round(gigabytes * GIB)}, {kind: 1}, datetime.now(UTC)))
    assert finding.verdict is verdict
    assert said in finding.detail


def test_a_refused_policy_file_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "policy.yml"
    file.write_text("version: nonsense\nno_such_section: 1\n")
    finding = policy(file)
    assert finding.verdict is Level.FAILED
    assert f"correct it, then: vision policy check {file}" in finding.detail
    assert policy(None).verdict is Level.OK


async def test_what_needs_a_service_that_does_not_answer_is_not_asked_again() -> None:
    """It would wait for Kafka and Postgres once more; and what was not looked at must not be missing silently."""

    async def count() -> int:
        raise AssertionError("nobody is to be asked")

    nothing_listens = Settings(vision_api_port=1, metrics_port=1)
    found = {one.check: one for one in await operation(nothing_listens, {"kafka": False, "postgres": False}, count)}
    for name in ("dead letters", "bucket"):
        assert found[name].verdict is Level.HINT
        assert found[name].detail.startswith("not looked at")
