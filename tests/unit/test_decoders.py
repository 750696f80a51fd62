"""The pool of decoder processes: their limits, how they end, and what remains in each case."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image, ImageCms

from tests.fakes import until
from tests.hostile_pictures import encoded, png, scan_bomb, zeros
from vision_app.providers.base import Picture
from vision_app.providers.decoder_child import HEADER
from vision_app.providers.decoders import Child, ChildDied, Decoders, DecodersUnavailable, Reply
from vision_app.providers.decoding import DecodeRequest, UnusablePicture, told
from vision_app.settings import load_settings
from vision_app.telemetry import metrics

PICTURE = encoded("JPEG")


@contextlib.asynccontextmanager
async def running(children: int = 1, pool: Mapping[str, Any] = {}, **changes: Any) -> AsyncIterator[Decoders]:
    """Decoders with these parameters of the pool and changed settings."""
    opened = Decoders(load_settings(**changes), children, **pool)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def replaced(cause: str) -> float:
    return float(metrics.DECODERS_REPLACED.labels(cause=cause)._value.get())


async def fault_of(decoders: Decoders, content: bytes) -> UnusablePicture:
    with pytest.raises(UnusablePicture) as caught:
        await decoders.prepare(content, "image/jpeg")
    return caught.value


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


async def busy(*pids: int) -> None:
    """Wait until one of these processes uses processor time."""
    before = {pid: _cpu(pid) for pid in pids}
    await until(lambda: any(_cpu(pid) > before[pid] + 0.05 for pid in pids))


async def test_decoder_children_have_no_secrets_and_can_open_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIGACHAT_CLIENT_SECRET", "canary")
    async with running() as decoders:
        [pid] = decoders.pids
        process = psutil.Process(pid)
        assert set(process.environ()) == {"PATH", "LC_ALL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "MALLOC_ARENA_MAX"}
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
        assert process.cwd() == "/"
        limits = {name: process.rlimit(getattr(psutil, f"RLIMIT_{name}")) for name in ("NOFILE", "CORE", "FSIZE")}
        assert limits == {"NOFILE": (3, 3), "CORE": (0, 0), "FSIZE": (0, 0)}
        assert process.rlimit(psutil.RLIMIT_AS) == (1280 * 1024**2,) * 2
        assert "NoNewPrivs:\t1\n" in status_of(pid)


async def test_two_pictures_at_a_time_and_the_children_stay() -> None:
    async with running(2) as decoders:
        pids = sorted(decoders.pids)
        pictures = await asyncio.gather(*(decoders.prepare(PICTURE, "image/jpeg") for _ in range(20)))
        assert {picture.width for picture in pictures} == {300}
        assert sorted(decoders.pids) == pids


async def test_memory_is_bounded_and_the_child_is_replaced() -> None:
    """16 million pixels with transparency need 175 MB; the limit is 128 MB."""
    before = replaced("memory")
    async with running(vision_decoding_memory_mb=128) as decoders:
        pids = decoders.pids
        fault = await fault_of(decoders, png(3990, 3990, zeros(64_000_000), depth=8, colour=6))
        assert fault.reason == "decoding_memory"
        assert (await decoders.prepare(PICTURE, "image/jpeg")).width == 300
        assert decoders.pids != pids
    assert replaced("memory") == before + 1


async def test_processor_time_is_bounded_per_picture_and_not_per_child() -> None:
    before = replaced("timeout")
    async with running(vision_decoding_timeout=1) as decoders:
        pids = decoders.pids
        slow = encoded("PNG", (1500, 1000))
        while psutil.Process(pids[0]).cpu_times().user < 1.1:
            await decoders.prepare(slow, "image/png")
        assert decoders.pids == pids
        fault = await fault_of(decoders, scan_bomb())
        assert (fault.reason, fault.details) == ("decoding_timeout", {"limit_cpu_seconds": 1})
        assert (await decoders.prepare(PICTURE, "image/jpeg")).width == 300
    assert replaced("timeout") == before + 1


async def test_a_child_that_hangs_is_ended_at_the_deadline() -> None:
    async with running(pool={"deadline_seconds": 1.0}) as decoders:
        os.kill(decoders.pids[0], signal.SIGSTOP)
        assert (await fault_of(decoders, PICTURE)).reason == "decoding_timeout"
        assert (await decoders.prepare(PICTURE, "image/jpeg")).width == 300


async def test_a_picture_survives_the_death_of_its_child_once() -> None:
    async with running() as decoders:
        [idle] = decoders.pids
        working = asyncio.create_task(decoders.prepare(scan_bomb(3000, 100), "image/jpeg"))
        await busy(idle)
        os.kill(idle, signal.SIGKILL)
        assert (await working).mime_type == "image/jpeg"
        assert decoders.pids != [idle]


class Dying(Child):
    """Ends in the middle of its picture."""

    async def decode(self, content: bytes, declared_mime: str, wish: DecodeRequest) -> Picture:
        os.kill(self.pid, signal.SIGSEGV)
        raise ChildDied(self._process.wait())


async def test_a_picture_that_ends_two_children_is_to_blame() -> None:
    before = replaced("died")
    kinds = iter([Dying, Dying, Child])
    async with running(pool={"start": lambda *given: next(kinds)(*given)}) as decoders:
        fault = await fault_of(decoders, PICTURE)
        assert fault.reason == "decoding_crashed"
        assert fault.details == {"exit_status": -signal.SIGSEGV, "attempts": 2}
        assert (await decoders.prepare(PICTURE, "image/jpeg")).width == 300
    assert replaced("died") == before + 2


async def test_an_idle_child_that_died_is_replaced_unnoticed() -> None:
    async with running() as decoders:
        [pid] = decoders.pids
        os.kill(pid, signal.SIGKILL)
        assert (await decoders.prepare(PICTURE, "image/jpeg")).width == 300
        assert decoders.pids != [pid]


async def test_a_child_is_replaced_after_its_number_of_pictures() -> None:
    async with running(pool={"pictures_per_child": 2}) as decoders:
        seen = set()
        for _ in range(4):
            seen.update(decoders.pids)
            await decoders.prepare(PICTURE, "image/jpeg")
        assert len(seen) == 2


async def test_a_cancelled_wait_leaves_no_child_with_an_unread_reply() -> None:
    async with running() as decoders:
        [pid] = decoders.pids
        working = asyncio.create_task(decoders.prepare(scan_bomb(), "image/jpeg"))
        await busy(pid)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert not psutil.pid_exists(pid)
        assert (await decoders.prepare(PICTURE, "image/jpeg")).width == 300


async def test_closing_ends_all_children_including_busy_ones() -> None:
    decoders = Decoders(load_settings(), 2)
    await decoders.open()
    pids = decoders.pids
    working = asyncio.create_task(decoders.prepare(scan_bomb(), "image/jpeg"))
    await busy(*pids)
    await decoders.close()
    with pytest.raises(DecodersUnavailable, match="the worker stops"):
        await working
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_childs_reply_is_checked() -> None:
    """An attacked decoder may reply anything. An unknown type, endless content or an unknown reason is refused."""
    image = {"mime_type": "image/png", "width": 1, "height": 1, "same": False}
    answers: list[tuple[dict[str, Any], bytes]] = [
        ({**image, "mime_type": "text/html"}, b"<script>"),
        ({**image, "width": "many"}, b"x"),
        ({**image, "same": True}, b""),
        (image, bytes(15_000_001)),
        ({"reason": "budget", "details": {}}, b""),
        ({}, b""),
    ]
    left = iter(answers)

    class Lying(Child):
        def _ask(self, asked: bytes, content: bytes) -> Reply:
            return next(left)

    async with running(len(answers), pool={"tries": 1, "start": Lying}) as decoders:
        for answer in answers:
            assert (await fault_of(decoders, PICTURE)).reason == "decoding_crashed", answer


async def test_an_invalid_reply_on_the_pipe_ends_the_child() -> None:
    async with running() as decoders:
        [child] = decoders._idle
        child._process.kill()
        assert child._process.stdout
        child._process.stdout.close()
        for garbage in (HEADER.pack(2**31, 5), HEADER.pack(4, 2**31) + b"null", HEADER.pack(4, 0) + b"nope", b"short"):
            child._process.stdout = io.BytesIO(garbage)
            with pytest.raises(ChildDied):
                child._ask(b"{}", PICTURE)


async def test_without_children_the_worker_does_not_start() -> None:
    missing = partial(Child, program="vision_app.providers.no_such_program")
    with pytest.raises(DecodersUnavailable, match=r"no_such_program does not start.*run it with python -m"):
        await Decoders(load_settings(), 1, start=missing).open()


def test_children_end_when_the_worker_is_killed() -> None:
    program = textwrap.dedent("""
        import asyncio
        from tests.hostile_pictures import scan_bomb
        from vision_app.providers.decoders import Decoders
        from vision_app.settings import load_settings
        async def main():
            decoders = Decoders(load_settings(), 2)
            await decoders.open()
            print(*decoders.pids, flush=True)
            await decoders.prepare(scan_bomb(), "image/jpeg")
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        deadline = time.monotonic() + 20
        while all(_cpu(pid) < 0.2 for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.02)
        worker.kill()
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(pids) == 2
    assert not any(_alive(pid) for pid in pids)


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


# --- every colour mode, in a child that cannot open anything any more -------------------------------------------------

RED = (204, 51, 51)  # one of the 216 colours of a palette
CONTENTS: dict[str, float | tuple[float, ...]] = {
    "1": 255,
    "L": 120,
    "LA": (120, 255),
    "I": 120,
    "I;16": 120 * 256,
    "I;16B": 120 * 256,
    "F": 120.0,
}


def coloured(form: str, mode: str, **options: Any) -> tuple[bytes, tuple[int, int, int]]:
    """A picture of one colour, and that colour."""
    if mode in CONTENTS:
        grey = 255 if mode == "1" else 120
        image, seen = Image.new(mode, (40, 30), CONTENTS[mode]), (grey, grey, grey)
    elif mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        made = ImageCms.profileToProfile(Image.new("RGB", (40, 30), RED), *profiles, outputMode="LAB")
        assert made is not None
        image, seen = made, RED
    else:
        first = Image.new("RGB", (40, 30), RED).convert("P" if mode == "PA" else mode)
        image, seen = first.convert(mode), RED
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue(), seen


SOUND: list[tuple[str, str, dict[str, Any]]] = [
    *(
        ("TIFF", mode, {})
        for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "LAB", "I", "I;16", "I;16B", "F")
    ),
    *(("TIFF", "LAB", {"compression": how}) for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
    *(("TIFF", "YCbCr", {"compression": "jpeg"}), ("TIFF", "1", {"compression": "group4"})),
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("PNG", "P", {"transparency": 255}), ("GIF", "P", {"transparency": 255})),
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK", "YCbCr")),
    *(("WEBP", mode, {"lossless": True}) for mode in ("RGB", "RGBA", "LA")),
    *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
]


@pytest.mark.parametrize("scaled", [True, False])
async def test_sound_pictures_of_every_kind_of_colours_are_decoded_in_a_child(scaled: bool) -> None:
    async with running(vision_preprocess_enabled=scaled) as decoders:
        for form, mode, options in SOUND:
            content, colour = coloured(form, mode, **options)
            picture = await decoders.prepare(content, "image/x")
            with Image.open(io.BytesIO(picture.content)) as image:
                seen = image.convert("RGB").getpixel((20, 15))
            assert seen == pytest.approx(colour, abs=12), (form, mode, options)


PATHS = [
    (OSError(24, "Too many open files", "/opt/app/lib/PIL/ImageCms.py"), "OSError: this form of picture"),
    (ImportError("cannot import name x from y (/opt/app/y.py)"), "ImportError: this form of picture"),
    (ValueError("bad table in '/opt/app/x.py', line 3"), "ValueError: bad table in '…', line 3"),
    (SyntaxError(r"in C:\app\opt\x.py: no"), "SyntaxError: in … no"),
    (OSError("image file is truncated (3 bytes not processed)"), "OSError: image file is truncated (3 bytes"),
    (ValueError("seen image/tiff, 1/2 of it"), "ValueError: seen image/tiff, 1/2 of it"),
]


@pytest.mark.parametrize(("fault", "text"), PATHS)
def test_an_error_text_names_no_path_of_the_machine(fault: Exception, text: str) -> None:
    said = told(fault)
    assert said.startswith(text)
    assert "opt" not in said
    assert "Too many open files" not in said
