"""The guide's commands for the worker's container, run as they stand where they need no container: with the modules of
deploy/compat, against the embedded services. `make image-check` runs the same blocks inside the built image.

`guide.md` beside this file is the guide as it was given; it is never edited.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import yaml
from pydantic import ValidationError

from vision_app.events import read_entry

ROOT = Path(__file__).parents[2]
COMPAT = ROOT / "deploy" / "compat"
GUIDE = (Path(__file__).parent / "guide.md").read_text()
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STREAM = "stream:guide-container:uploaded"
"""Of this module: workers of other tests listen on the usual one."""
TENANT = "guide-container"


def block(language: str, containing: str) -> str:
    """The one code block of the guide in that language with that text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return str(found)


@pytest.fixture
def container(stack: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a process in the worker's container."""
    own = {"PYTHONPATH": str(COMPAT), "VISION_INPUT_STREAMS": STREAM, "S3_DEFAULT_TENANT_ID": TENANT}
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | stack | own


def run(program: str, environment: dict[str, str], *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, input=program, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("given", "told"), [("true", "True"), ("false", "False")])
def test_step_2_feature_flag(container: dict[str, str], tmp_path: Path, given: str, told: str) -> None:
    heredoc = block("bash", "from feature_flags import feature_flags")
    (program,) = re.findall(r"<< 'EOF'\n(.*?)EOF\n", heredoc, flags=re.DOTALL)
    ended = run(program, container | {"FEATURE_VISION_ENABLED": given}, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, f"Vision enabled: {told}\n"), ended.stderr


def test_step_3_creating_an_event(stack: dict[str, str], container: dict[str, str], tmp_path: Path) -> None:
    snippet = block("python", "EventPublisher(redis_client)")
    assert "import redis" not in snippet  # the guide forgets it; every reader will add it
    literal = '"redis://redis:6379"'
    assert snippet.count(literal) == 1
    program = "import redis.asyncio as redis\n" + snippet.replace(literal, repr(stack["REDIS_URL"]))
    ended = run(program, container, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (published,) = re.findall(r"^Event published: (\d+-\d+)$", ended.stdout, flags=re.MULTILINE)

    with redis.Redis.from_url(stack["REDIS_URL"]) as client:
        ((entry_id, fields),) = client.xrange(STREAM, published, published)
    assert entry_id.decode() == published
    event = read_entry(fields, default_tenant="nobody", entry_id=published)
    (medium,) = event.media_files
    assert (event.tenant_id, event.post_id, event.channel_id) == (TENANT, "your-post-uuid", "channel-uuid")
    assert event.idempotency_key == f"{TENANT}:your-post-uuid:{medium.sha256}"
    assert event.trace_id.startswith("test_")
    assert (medium.size_bytes, medium.telegram_file_id) == (512_000, "test_file_id")
    assert medium.s3_key == f"media/{TENANT}/{medium.sha256[:2]}/{medium.sha256}.jpg"


def test_an_event_the_worker_could_not_read_is_refused_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(COMPAT))
    from worker.events.schemas import MediaFile, VisionUploadedEventV1

    made: Any = VisionUploadedEventV1  # its fields are whatever the producer gives
    media = [MediaFile(sha256="ab" * 32)]
    assert made(post_id="1", media_files=media).media_files == media
    with pytest.raises(ValidationError, match="post_id is missing"):
        made(media_files=media)
    with pytest.raises(ValidationError, match="schema_version"):
        made(post_id="1", media_files=media, schema_version="v9")


async def test_an_event_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(COMPAT))
    from worker.event_bus import EventPublisher
    from worker.events.schemas import MediaFile, VisionUploadedEventV1

    made: Any = VisionUploadedEventV1  # its fields are whatever the producer gives
    event = made(post_id="1", media_files=[MediaFile(sha256="ab" * 32)])
    with pytest.raises(ValueError, match=r"publish 'posts\.vision\.uploaded'"):
        await EventPublisher(redis=cast(Any, None)).publish_event("posts.parsed", event)


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("docker exec worker python3 -m worker.scripts.diag_vision", ("-m", "worker.scripts.diag_vision"), "diag"),
        (
            "docker exec worker python3 /opt/telegram-assistant/scripts/test_vision_e2e.py",
            (str(COMPAT / "scripts" / "test_vision_e2e.py"),),
            "e2e",
        ),
    ],
)
def test_old_names_are_our_commands(
    container: dict[str, str], tmp_path: Path, command: str, old: tuple[str, ...], new: str
) -> None:
    assert command in GUIDE
    theirs = run("", container, *old, "--help", folder=tmp_path)
    ours = run("", container, "-c", "from vision_app.cli import main; main()", new, "--help", folder=tmp_path)
    assert theirs.returncode == ours.returncode == 0, theirs.stderr + ours.stderr
    assert "--post-id" in theirs.stdout
    assert theirs.stdout.partition(" ")[2] == ours.stdout.partition(" ")[2].replace("-c ", "vision ", 1)


def test_where_the_guide_looks_things_are() -> None:
    assert "docker exec worker cat /app/config/vision_policy.yml" in GUIDE
    copied = re.sub(r"--chmod=\S+ ", "", DOCKERFILE)
    assert "COPY config/vision_policy.yml /app/config/vision_policy.yml" in copied
    assert "COPY deploy/compat /opt/telegram-assistant" in copied
    assert "PYTHONPATH=/opt/telegram-assistant" in DOCKERFILE


def test_every_container_and_service_the_guide_names_exists() -> None:
    containers = set(re.findall(r"docker exec (\w+)", GUIDE))
    assert containers == {"worker", "redis", "neo4j"}
    assert containers <= {service["container_name"] for service in SERVICES.values()}
    assert set(re.findall(r"docker compose logs (?:-f )?(\w+)", GUIDE)) <= set(SERVICES)
    published = {mapping.split(":")[1] for mapping in SERVICES["worker"]["ports"]}
    assert set(re.findall(r"http://localhost:(\d+)", GUIDE)) == published
