"""The policy file: read again when it changes; a faulty file never replaces the policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from vision_app.app import create_app
from vision_app.domain.policy import PolicyError
from vision_app.settings import load_settings
from vision_app.stores.policy_file import PolicyFile, default_policy_path, read_policy
from vision_app.telemetry import metrics

TEXT = "allowed_mime_types:\n  images: [image/png]\nlimits:\n  max_image_mb: {}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "policy.yml"
    found.write_text(TEXT.format(5))
    return found


def rewrite(path: Path, text: str) -> None:
    """Replace the content, with a later time than before, also if the file system's clock is coarse."""
    later = path.stat().st_mtime_ns + 1_000_000 if path.exists() else None
    path.write_text(text)
    if later:
        os.utime(path, ns=(later, later))


def reloads(result: str) -> float:
    return metrics.REGISTRY.get_sample_value("vision_policy_reloads_total", {"result": result}) or 0


def test_the_shipped_file_is_found_and_usable() -> None:
    assert default_policy_path().name == "vision_policy.yml"
    assert PolicyFile(None).policy.allows("image/jpeg")


def test_nothing_changes_while_the_file_does_not(path: Path) -> None:
    file = PolicyFile(path)
    before = file.policy
    assert not file.refresh()
    assert file.policy is before


def test_a_changed_file_is_taken_over(path: Path) -> None:
    file, before = PolicyFile(path), reloads("loaded")
    rewrite(path, TEXT.format(7))
    assert file.refresh()
    assert file.policy.limits.max_image_mb == 7
    assert reloads("loaded") == before + 1


def test_a_faulty_file_keeps_the_policy_and_is_reported_once(path: Path) -> None:
    file, before = PolicyFile(path), reloads("refused")
    rewrite(path, TEXT.format(-7))
    with capture_logs() as logs:
        assert not file.refresh()
        assert not file.refresh()
    assert file.policy.limits.max_image_mb == 5
    assert reloads("refused") == before + 1
    [line] = logs
    assert line["log_level"] == "error"
    assert line["faults"] == [f"{path}:4: limits.max_image_mb: must be greater than 0"]
    assert f"vision policy check {path}" in line["next_step"]
    rewrite(path, TEXT.format(8))
    assert file.refresh()
    assert file.policy.limits.max_image_mb == 8


async def test_a_worker_looks_at_the_file_without_an_event(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: dict[str, tuple[float, Any]] = {}

    def every(_: object, seconds: float, turn: Any) -> None:
        timers[turn.__name__] = (seconds, turn)

    # patched: the timers of an app run only while it runs
    monkeypatch.setattr("vision_app.app.every", every)
    create_app(load_settings(vision_policy_config_path=path))
    seconds, look = timers["look_at_policy"]
    assert seconds <= 5
    loaded, refused = reloads("loaded"), reloads("refused")
    await look()
    rewrite(path, TEXT.format(6))
    await look()
    rewrite(path, TEXT.format("much"))
    await look()
    assert (reloads("loaded"), reloads("refused")) == (loaded + 1, refused + 1)


def test_a_file_that_disappears_and_returns(path: Path) -> None:
    file = PolicyFile(path)
    path.unlink()
    with capture_logs() as logs:
        assert not file.refresh()
        assert not file.refresh()
    assert len(logs) == 1
    path.write_text(TEXT.format(9))
    assert file.refresh()
    assert file.policy.limits.max_image_mb == 9


def test_without_a_usable_file_there_is_no_start(path: Path) -> None:
    rewrite(path, TEXT.format("much"))
    with pytest.raises(PolicyError, match=r"policy\.yml:4: limits\.max_image_mb"):
        PolicyFile(path)
    with pytest.raises(PolicyError, match="VISION_POLICY_CONFIG_PATH"):
        PolicyFile(path.parent / "none.yml")


def test_a_file_that_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(PolicyError, match="UTF-8"):
        read_policy(path)


def test_keys_without_effect_are_logged(path: Path) -> None:
    path.write_text(TEXT.format(1) + "fallback: {ocr_engine: paddle}\n")
    with capture_logs() as logs:
        PolicyFile(path)
    assert "tesseract is used" in logs[0]["note"]


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="larger than 65536 bytes"):
        read_policy(Path("/dev/zero"))
