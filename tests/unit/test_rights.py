"""The least rights in Redis and Postgres: the lists in the code, the guide and the tables agree."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from vision_app.clients.redis_rights import needed_commands
from vision_app.providers.slots import Slots
from vision_app.settings import load_settings
from vision_app.stores.budget_mirror import SENTINELS, sentinel_key, spent_key
from vision_app.stores.migrate import migrations
from vision_app.stores.redis_announcer import emitted_key, processed_key
from vision_app.stores.rights import TABLES, grants_for
from vision_app.streams.set_aside import KEY

PROBE = "rights-probe"
GUIDE = (Path(__file__).parents[2] / "docs" / "connecting.md").read_text("utf-8")


def test_rights_in_redis_are_asked_for_every_kind_of_key() -> None:
    settings = load_settings()
    words = {word for command in needed_commands(settings) for word in command}
    slots = [key.replace(hashlib.sha256(b"").hexdigest()[:16], PROBE) for key in Slots(settings)._keys]
    keys = [emitted_key(PROBE, PROBE), processed_key(PROBE, PROBE), SENTINELS, KEY, *slots]
    keys += [sentinel_key(PROBE), spent_key(PROBE, PROBE), settings.vision_output_stream, settings.vision_dlq_stream]
    assert {*keys, *settings.input_streams} - words == set()


def test_the_right_to_wait_is_needed_behind_sentinels_only() -> None:
    alone = load_settings()
    behind = load_settings(redis_sentinels="h:1", redis_sentinel_master="m")
    assert [command[0] for command in needed_commands(behind) if command not in needed_commands(alone)] == ["WAIT"]


def test_every_table_has_its_rights_and_the_guide_lists_them() -> None:
    made = {name for one in migrations() for name in re.findall(r"CREATE TABLE (\w+)", one.sql)}
    assert set(TABLES) == made | {"schema_migrations"}
    assert "\n".join(f"{statement};" for statement in grants_for("vision", "public", "vision")) in GUIDE
