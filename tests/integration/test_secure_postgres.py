"""Postgres over TLS, with a role of least rights, and behind pgbouncer: against real servers set up so."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.secure_postgres import OWNER, PASSWORD, WORKER, SecurePostgres, open_folder, pgbouncer
from tests.tls_files import Certificates, make_certificates
from vision_app.clients.postgres import postgres_connection, postgres_fault, postgres_pool
from vision_app.operations import foundations
from vision_app.retention.lock import StorageBusy, exclusively
from vision_app.settings import Settings, SettingsError, load_settings
from vision_app.stack.reachable import Unchecked, Unreachable
from vision_app.stack.reachable import postgres as doctor
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.postgres import PostgresSink
from vision_app.stores.rights import TABLES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(made: Certificates) -> Iterator[SecurePostgres]:
    with open_folder() as folder:
        secured = SecurePostgres(folder, made)
        secured.prepare()
        with secured.running():
            asyncio.run(secured.make_roles())
            yield secured


@pytest.fixture
async def database(server: SecurePostgres) -> SecurePostgres:
    """The server with an empty database."""
    await server.execute("DROP DATABASE IF EXISTS vision WITH (FORCE)")
    await server.make_database()
    return server


@pytest.fixture
async def migrated(database: SecurePostgres) -> SecurePostgres:
    """The server with a database that the owner has migrated."""
    settings = settings_for(database)
    assert len(await foundations.apply(settings)) > 0
    assert await foundations.grant(settings) == (WORKER, [])
    return database


def settings_for(server: SecurePostgres, **changes: Any) -> Settings:
    given = {"database_url": server.url(), "database_owner_url": server.url(OWNER)}
    return load_settings(**{**given, **changes})


async def says(settings: Settings, *texts: str) -> None:
    """The worker's start and the doctor both say this, in one line without a secret."""
    sink = PostgresSink(settings)
    with pytest.raises(SinkUnavailable) as of_worker:
        await sink.open()
    await sink.close()
    with pytest.raises(Unreachable) as of_doctor:
        await doctor(settings)
    for said in (str(of_worker.value), str(of_doctor.value)):
        assert "\n" not in said
        assert "canary" not in said
        for text in texts:
            assert text in said, said


async def opens(settings: Settings) -> None:
    sink = PostgresSink(settings)
    await sink.open()
    await sink.close()


# --- TLS and passwords ------------------------------------------------------------------------------------------------


async def test_verified_tls_our_certificate_and_a_role_without_ddl(migrated: SecurePostgres) -> None:
    settings = settings_for(migrated)
    await opens(settings)
    assert (await doctor(settings)).endswith("all tables are there")
    connection = await postgres_connection(settings, application="test")
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()


async def test_an_authority_that_is_not_trusted(database: SecurePostgres, made: Certificates) -> None:
    for mode in ("verify-ca", "verify-full"):
        url = database.url(OWNER, f"sslmode={mode}&sslrootcert={made.other_ca}")
        await says(
            settings_for(database, database_url=url),
            "Postgres: the server's certificate is signed by an authority that is not trusted here",
            "name the authority's file in sslrootcert=… of DATABASE_URL",
        )


async def test_encryption_without_verification_is_told(migrated: SecurePostgres, made: Certificates) -> None:
    own = f"&sslcert={made.client[0]}&sslkey={made.client[1]}"
    for options, text in [
        (f"sslmode=require{own}", "sslmode=require encrypts, but does not verify"),
        (f"sslmode=verify-ca&sslrootcert={made.ca}{own}", "does not compare the host name"),
    ]:
        settings = settings_for(migrated, database_url=migrated.url(options=options))
        await opens(settings)
        with pytest.raises(Unchecked, match=text):
            await doctor(settings)


async def test_a_client_certificate_that_is_missing_or_not_trusted(
    database: SecurePostgres, made: Certificates
) -> None:
    verified = f"sslmode=verify-full&sslrootcert={made.ca}"
    await says(
        settings_for(database, database_url=database.url(options=verified)),
        "Postgres: connection requires a valid client certificate",
        "sslcert=… and sslkey=… in DATABASE_URL",
    )
    strange = f"{verified}&sslcert={made.stranger[0]}&sslkey={made.stranger[1]}"
    await says(settings_for(database, database_url=database.url(options=strange)), "Postgres", "certificate")


async def test_a_wrong_password_an_unknown_user_and_database(database: SecurePostgres) -> None:
    wrong = database.url().replace(PASSWORD, "canary-other")
    await says(settings_for(database, database_url=wrong), "Postgres refuses the password", "DATABASE_URL")
    nobody = database.url(OWNER).replace(OWNER, "nobody")
    await says(settings_for(database, database_url=nobody), "Postgres refuses the password", "DATABASE_URL")
    elsewhere = database.url(OWNER, database="elsewhere")
    await says(settings_for(database, database_url=elsewhere), "elsewhere", "check the database's name in DATABASE_URL")


async def test_no_tls_to_a_server_that_wants_it(database: SecurePostgres) -> None:
    url = database.url(OWNER, "sslmode=disable")
    await says(
        settings_for(database, database_url=url), "Postgres takes only connections with TLS", "sslmode=verify-full"
    )


async def test_other_certificates_of_the_server_and_none(made: Certificates) -> None:
    with open_folder() as folder:
        other = SecurePostgres(folder, made)
        other.prepare()
        for pair, text in [
            (made.expired, "Postgres: the server's certificate has expired; renew it on the server"),
            (made.other_name, "Postgres: the server's certificate is for another host name"),
        ]:
            with other.running(pair):
                await says(load_settings(database_url=other.url("postgres", database="postgres")), text)
        verified = other.url("postgres", database="postgres")
        other.tls = False
        with other.running():
            await says(load_settings(database_url=verified), "Postgres: the server does not speak TLS")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("sslrootcert=/missing.pem", r"DATABASE_URL: sslrootcert=/missing.pem cannot be read \(No such file"),
        ("sslcert=/missing.pem", r"DATABASE_URL: sslcert=/missing.pem cannot be read \(No such file"),
    ],
)
def test_a_file_that_cannot_be_read(options: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        PostgresSink(load_settings(database_url=f"postgresql://h/d?sslmode=verify-full&{options}"))


def test_a_file_of_authorities_that_is_none(made: Certificates) -> None:
    url = f"postgresql://h/d?sslmode=verify-full&sslrootcert={made.server[1]}"
    with pytest.raises(SettingsError, match="cannot be used: not in PEM format"):
        PostgresSink(load_settings(database_url=url))


# --- roles ------------------------------------------------------------------------------------------------------------


async def test_a_worker_without_ddl_says_that_the_owner_must_migrate(database: SecurePostgres) -> None:
    await database.execute(f"GRANT CONNECT ON DATABASE vision TO {WORKER}")
    await says(
        settings_for(database),
        "vision may not make or change tables, and these are not applied: 0001_post_enrichment",
        "run `vision migrate apply` with DATABASE_OWNER_URL",
    )


async def test_the_command_migrates_and_grants(database: SecurePostgres, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from vision_app.cli import main; main()", "migrate", "apply"]
    own = {"DATABASE_URL": database.url(), "DATABASE_OWNER_URL": database.url(OWNER), "VISION_HOME": str(tmp_path)}
    outcome = await asyncio.to_thread(subprocess.run, command, env=os.environ | own, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert "postgres: vision may use the tables" in outcome.stdout
    await opens(settings_for(database))


async def test_the_least_rights_are_no_more_than_needed_and_a_missing_one_is_named(migrated: SecurePostgres) -> None:
    settings = settings_for(migrated)
    revoked = [f"REVOKE ALL ON {table} FROM {WORKER}" for table in TABLES]
    await migrated.execute(*revoked, user=OWNER, database="vision")
    await says(settings, "Postgres: permission denied for table schema_migrations", "DATABASE_OWNER_URL")
    assert await foundations.grant(settings) == (WORKER, [])
    await opens(settings)
    await migrated.execute(f"REVOKE UPDATE ON storage_state FROM {WORKER}", user=OWNER, database="vision")
    await says(settings, "lacks rights; run `vision migrate apply`", 'GRANT UPDATE ON storage_state TO "vision"')
    await migrated.execute(f"REVOKE TEMPORARY ON DATABASE vision FROM {WORKER}", user=OWNER, database="vision")
    await says(settings, 'GRANT TEMPORARY ON DATABASE "vision" TO "vision"')


async def test_a_worker_with_all_rights_still_migrates_by_itself(database: SecurePostgres) -> None:
    settings = settings_for(database, database_url=database.url(OWNER), database_owner_url="")
    assert (await doctor(settings)).endswith("tables can be made")
    await opens(settings)
    assert (await doctor(settings)).endswith("all tables are there")


# --- pgbouncer --------------------------------------------------------------------------------------------------------


def pooled(server: SecurePostgres, port: int, **changes: Any) -> Settings:
    through = f"sslmode=verify-full&sslrootcert={server.made.ca}"
    given = {
        "database_url": server.url(options=through, port=port),
        "database_session_url": server.url(options=through, port=port, database="vision_session"),
        "database_pgbouncer": True,
    }
    return settings_for(server, **{**given, **changes})


async def test_pgbouncer_in_transaction_mode(migrated: SecurePostgres) -> None:
    with pgbouncer(migrated) as port:
        settings = pooled(migrated, port)
        await opens(settings)
        assert (await doctor(settings)).endswith("all tables are there")


async def mixed(pool: Any, rounds: int) -> list[BaseException]:
    """Different statements from many clients at once. Returns what went wrong, wrong answers included."""

    async def ask(number: int) -> None:
        for _ in range(rounds):
            sign = "+" if number % 2 else "-"
            answer = await pool.fetchval(f"SELECT $1::int {sign} {number}", 1000)
            assert answer == 1000 + (number if number % 2 else -number)

    outcome = await asyncio.gather(*(ask(number) for number in range(8)), return_exceptions=True)
    return [one for one in outcome if isinstance(one, BaseException)]


async def test_statements_of_many_clients_do_not_mix_behind_pgbouncer(migrated: SecurePostgres) -> None:
    """And the control: where nobody says that it is pgbouncer, they do; then the error says what to set."""
    with pgbouncer(migrated, pool_size=2) as port:
        pool = await postgres_pool(pooled(migrated, port), size=8, application="test", command_timeout=20)
        assert await mixed(pool, 30) == []
        await pool.close()
        unsaid = pooled(migrated, port, database_pgbouncer=False)
        pool = await postgres_pool(unsaid, size=8, application="test", command_timeout=20)
        faults = await mixed(pool, 30)
        pool.terminate()
        assert any("set DATABASE_PGBOUNCER=true" in postgres_fault(fault) for fault in faults), faults


async def test_one_worker_at_a_time_cleans_up_behind_pgbouncer(migrated: SecurePostgres) -> None:
    with pgbouncer(migrated) as port:
        settings = pooled(migrated, port)
        async with exclusively(settings) as connection:
            await connection.execute("CREATE TEMP TABLE listed (key text)")
            await connection.copy_records_to_table("listed", records=[("a",)])
            with pytest.raises(StorageBusy):
                async with exclusively(settings):
                    pass
            assert await connection.fetchval("SELECT count(*) FROM listed") == 1
        async with exclusively(settings):
            pass


def test_pgbouncer_without_a_way_to_a_session() -> None:
    with pytest.raises(SettingsError, match="DATABASE_PGBOUNCER is set and DATABASE_SESSION_URL is not"):
        load_settings(database_pgbouncer=True)
