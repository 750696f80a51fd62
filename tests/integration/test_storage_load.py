"""100,000 objects: counted, planned and condemned on real Postgres within bounds of time and memory. `make load`.

The listing comes from a stand-in, since filling a bucket with 100,000 objects takes longer than looking at it; the
real client's pages are covered by `test_storage.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping

import pytest

from tests.integration.storage import SCALED, place_of_its_own
from vision_app.operations.connections import postgres_of
from vision_app.settings import Settings

pytestmark = pytest.mark.load

OBJECTS = 100_000
SECONDS = 60
MIB = 300

MEASURED = """
import asyncio, json, re, sys, time
from datetime import UTC, datetime, timedelta

from vision_app.domain.storage import Aim
from vision_app.settings import load_settings
from vision_app.retention.cleanup import clean_up
from vision_app.stores.s3 import ObjectHead, S3Store

KINDS = ("media/{t}/{n:02x}/{n}.jpg", "vision/{t}/{n}_gigachat_GigaChat-Pro_v1.0_p1.json", "crawl/{t}/{n}/page.html",
         "vision/{t}/.calls/{n}.json", "vision/{t}/posts/{n}.json")

async def listing(self, prefix):
    now = datetime.now(UTC)
    for n in range(OBJECTS):
        key = KINDS[n % 5].format(t=f"tenant-{n % 50}", n=n)
        yield ObjectHead(key, 1000 + n % 700, last_modified=now - timedelta(minutes=n % 28_000))

async def deleted(self, keys):
    return {}

OBJECTS = int(sys.argv[1])
S3Store.list, S3Store.delete_unreported = listing, deleted

async def main():
    settings = load_settings()
    before = peak_kib()
    timed = {}
    for name, dry in (("planned", True), ("cleaned", False)):
        started = time.monotonic()
        report = await clean_up(settings, S3Store(settings), Aim("manual", target_bytes=0), dry_run=dry)
        timed[name] = round(time.monotonic() - started, 2)
    peak = peak_kib()
    print(json.dumps({"objects": report.listed, "deleted": report.deleted_count, **timed,
                      "peak_mib": round(peak / 1024), "grown_mib": round((peak - before) / 1024)}))

def peak_kib():
    with open("/proc/self/status") as status:  # not getrusage, whose peak is inherited from the parent
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])

asyncio.run(main())
"""


async def test_100_000_objects_are_planned_in_bounded_time_and_memory(
    stack: Mapping[str, str], stack_settings: Settings
) -> None:
    place = await place_of_its_own(stack_settings)
    own = {"S3_BUCKET": place.s3_bucket, "DATABASE_URL": place.database_url.get_secret_value()}
    limits = {name.upper(): str(getattr(place, name)) for name in SCALED}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEASURED, str(OBJECTS)),
        env={**os.environ, **stack, **own, **limits},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    figures = json.loads(output.splitlines()[-1])
    print(figures)
    assert figures["objects"] == OBJECTS
    assert figures["deleted"] > OBJECTS / 2
    assert figures["planned"] < SECONDS
    assert figures["peak_mib"] < MIB
    async with postgres_of(place) as pool:
        assert await pool.fetchval("SELECT count(*) FROM expired_objects WHERE expired_at IS NULL") == 0
        kept = await pool.fetchval("SELECT sum(objects_count) FROM tenant_storage_usage")
    assert kept == OBJECTS - figures["deleted"]
