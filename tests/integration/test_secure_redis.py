"""Redis over TLS, with a user of least rights, behind Sentinels, and as a cluster: against real servers set up so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.secure_redis import ADMIN, MASTER, PASSWORD, SecureRedis, least_rights, sentinel
from tests.tls_files import Certificates, make_certificates
from vision_app.clients.redis import ClusterRefused, missing_rights, ping, redis_client
from vision_app.settings import Settings, SettingsError, load_settings
from vision_app.stack.reachable import Unreachable
from vision_app.stack.reachable import redis as doctor
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.redis_announcer import Announcement, RedisAnnouncer
from vision_app.streams.set_aside import Marks
from vision_app.telemetry.watch import Watch

GOOD = "answers, never evicts"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureRedis]:
    with SecureRedis(tmp_path_factory.mktemp("redis"), made).running() as running:
        running.set_user()
        yield running


def settings_for(server: SecureRedis, **changes: Any) -> Settings:
    return load_settings(**server.settings(**changes))


async def refusal(settings: Settings) -> tuple[str, str]:
    """What the worker says at its start, and what the doctor says."""
    announcer = RedisAnnouncer(settings)
    try:
        with pytest.raises(SinkUnavailable) as of_worker:
            await announcer.open()
    finally:
        await announcer.close()
    with pytest.raises(Unreachable) as of_doctor:
        await doctor(settings)
    assert "canary" not in f"{of_worker.value} {of_doctor.value}"
    return str(of_worker.value), str(of_doctor.value)


async def says(settings: Settings, *texts: str) -> None:
    """The worker's start and the doctor both say this, in one line."""
    for said in await refusal(settings):
        assert "\n" not in said
        for text in texts:
            assert text in said, said


# --- TLS and passwords ------------------------------------------------------------------------------------------------


async def test_tls_with_our_own_authority_our_certificate_and_a_user(server: SecureRedis) -> None:
    settings = settings_for(server)
    announcer = RedisAnnouncer(settings)
    await announcer.open()
    await announcer.close()
    assert await doctor(settings) == GOOD


async def test_an_authority_that_is_not_trusted(server: SecureRedis, made: Certificates) -> None:
    for ca in (made.other_ca, None):
        await says(
            settings_for(server, redis_ca_file=ca),
            "Redis: the server's certificate is signed by an authority that is not trusted here",
            "name the authority's file in REDIS_CA_FILE",
        )


async def test_a_client_certificate_that_is_missing_or_a_strangers(server: SecureRedis, made: Certificates) -> None:
    strange = dict(zip(("redis_cert_file", "redis_key_file"), made.stranger, strict=True))
    for files in ({"redis_cert_file": None, "redis_key_file": None}, strange):
        await says(settings_for(server, **files), "Redis: the server", "client certificate")


async def test_a_wrong_password_and_an_unknown_user(server: SecureRedis) -> None:
    for user in (f"vision:{PASSWORD}x", f"nobody:{PASSWORD}", f":{PASSWORD}"):
        url = f"rediss://{user}@localhost:{server.port}/0"
        await says(settings_for(server, redis_url=url), "Redis refuses user or password", "check both in REDIS_URL")


async def test_no_tls_to_a_port_that_wants_it(server: SecureRedis) -> None:
    url = f"redis://vision:{PASSWORD}@localhost:{server.port}/0"
    files = {"redis_ca_file": None, "redis_cert_file": None, "redis_key_file": None}
    await says(settings_for(server, redis_url=url, **files), "server closes the connection", "TLS")


async def test_the_servers_certificate_is_expired_or_for_another_name(made: Certificates, tmp_path: Path) -> None:
    for name, pair, text in [
        ("expired", made.expired, "Redis: the server's certificate has expired; renew it on the server"),
        ("other", made.other_name, "Redis: the server's certificate is for another host name"),
    ]:
        (folder := tmp_path / name).mkdir()
        with SecureRedis(folder, made, pair).running() as running:
            await says(settings_for(running), text)


async def test_tls_to_a_port_without_it(made: Certificates, tmp_path: Path) -> None:
    running = SecureRedis(tmp_path, made)
    running.plain_port, tls_port = running.port, running.port + 1
    running.port = tls_port
    with running.running():
        running.port = running.plain_port
        await says(settings_for(running), "TLS", "check")


# --- rights -----------------------------------------------------------------------------------------------------------


async def test_each_right_of_the_guide_is_needed_and_a_missing_one_is_named(server: SecureRedis) -> None:
    """Also: the guide lists no right too much. EXEC cannot be tried, but the budgets are shown with it."""
    settings = settings_for(server)
    async with redis_client(settings) as client:
        with server.admin() as admin:
            for right in [right for right in least_rights() if right.startswith("+")]:
                admin.execute_command("ACL", "SETUSER", "vision", right.replace("+", "-"))
                missing = " ".join(await missing_rights(client, settings))
                assert right[1:].partition("|")[0] in missing.lower() or right == "+exec", (right, missing)
                admin.execute_command("ACL", "SETUSER", "vision", right)
    server.set_user("-xack", "-hgetall")
    try:
        await says(settings, "Redis: the user of REDIS_URL lacks rights", "'xack'", "'hgetall'", "have them granted")
    finally:
        server.set_user()


async def test_a_key_pattern_that_is_missing(server: SecureRedis) -> None:
    server.set_user("resetkeys", "~stream:posts:vision*", "~vision:*")
    try:
        await says(settings_for(server), "lacks rights", "budget:sentinel")
    finally:
        server.set_user()


async def test_looking_for_rights_changes_nothing(server: SecureRedis) -> None:
    settings = settings_for(server)
    with server.admin() as admin:
        admin.flushall()
        async with redis_client(settings) as client:
            assert await missing_rights(client, settings) == []
            await ping(client)
        assert admin.dbsize() == 0


async def test_an_announcement_is_all_or_nothing_when_a_right_goes(server: SecureRedis) -> None:
    settings = settings_for(server)
    body = {"tenant_id": "t", "post_id": "p", "emission": "5-1", "idempotency_key": "k", "enrichments": []}
    announcer = RedisAnnouncer(settings)
    await announcer.open()
    server.set_user("-set")
    try:
        for _ in range(3):
            with pytest.raises(SinkUnavailable, match=r"a right is missing: .*vision:emitted:t:p"):
                await announcer.write([Announcement("posts.vision.analyzed", body)])
    finally:
        server.set_user()
    with server.admin() as admin:
        assert admin.xlen(settings.vision_output_stream) == 0
        assert len(await announcer.write([Announcement("posts.vision.analyzed", body)])) == 1
        assert admin.xlen(settings.vision_output_stream) == 1
    await announcer.close()


async def test_a_server_that_hides_its_configuration_is_only_a_hint(server: SecureRedis) -> None:
    with server.admin() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(Unreachable, match="maxmemory-policy is allkeys-lru"):
            await doctor(settings_for(server))
        admin.config_set("maxmemory-policy", "noeviction")


# --- cluster ----------------------------------------------------------------------------------------------------------


async def test_a_cluster_is_refused(made: Certificates, tmp_path: Path) -> None:
    running = SecureRedis(tmp_path, made)
    running.cluster = True
    with running.running():
        running.set_user()
        settings = settings_for(running)
        await says(settings, "the server is part of a Redis Cluster", "name a single server")
        marks = Marks.of(settings, Watch(120, lambda: False))
        with pytest.raises(ClusterRefused, match="part of a Redis Cluster"):
            await marks.open()
        await marks.close()


# --- Sentinel ---------------------------------------------------------------------------------------------------------


def sentinel_settings(server: SecureRedis, port: int, **changes: Any) -> Settings:
    given = {
        "redis_url": f"rediss://vision:{PASSWORD}@ignored.example:1/0",
        "redis_sentinels": f"localhost:1,localhost:{port}",
        "redis_sentinel_master": MASTER,
        "redis_sentinel_password": ADMIN,
    }
    return settings_for(server, **{**given, **changes})


async def test_the_master_that_the_sentinels_name_and_what_is_said_when_they_do_not(
    server: SecureRedis, tmp_path: Path
) -> None:
    server.set_user("+wait")
    with sentinel(tmp_path, server, ADMIN) as port:
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await doctor(sentinel_settings(server, port)) == GOOD
                    break
                except Unreachable:
                    await asyncio.sleep(0.1)
        await says(sentinel_settings(server, port, redis_sentinel_master="other"), "check REDIS_SENTINEL_MASTER=other")
        await says(
            sentinel_settings(server, port, redis_sentinel_password="wrong"),
            "Redis Sentinel: nothing listens at the address; check REDIS_SENTINELS",
            "Redis Sentinel refuses user or password",
            "check both in REDIS_SENTINEL_PASSWORD",
        )
        await says(
            sentinel_settings(server, port, redis_ca_file=server.made.other_ca),
            "Redis Sentinel: the server's certificate is signed by an authority that is not trusted here",
        )


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"redis_url": "redis://h", "redis_ca_file": "x.pem"}, "REDIS_CA_FILE is set and REDIS_URL does not use it"),
        ({"redis_url": "rediss://h?ssl_cert_reqs=none"}, "must not have options that begin with ssl"),
        ({"redis_sentinels": "h:26379"}, "REDIS_SENTINELS is set and REDIS_SENTINEL_MASTER is not"),
        ({"redis_sentinel_master": "m"}, "REDIS_SENTINELS is not"),
        ({"redis_sentinel_password": "p"}, "REDIS_SENTINELS is not"),
        ({"redis_sentinels": "h", "redis_sentinel_master": "m"}, "must be host:port, separated by commas, and not 'h'"),
        (
            {"redis_url": "unix:///s", "redis_sentinels": "h:1", "redis_sentinel_master": "m"},
            "begin it with redis:// or rediss://",
        ),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says.replace("?", "\\?")):
        load_settings(**changes)


def test_a_file_that_cannot_be_used(made: Certificates) -> None:
    settings = load_settings(redis_url="rediss://h", redis_ca_file=made.server[1])
    with pytest.raises(SettingsError, match=r"REDIS_CA_FILE: .* cannot be used: not in PEM format"):
        redis_client(settings)
    with pytest.raises(SettingsError, match="REDIS_CERT_FILE is set and REDIS_KEY_FILE is not"):
        redis_client(load_settings(redis_url="rediss://h", redis_cert_file=made.client[0]))
