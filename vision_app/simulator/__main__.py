"""`python -m vision_app.simulator`: the simulator as a separate process."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import ssl
from pathlib import Path

import click
import structlog

from vision_app.simulator.config import SimulatorConfig
from vision_app.simulator.server import running_simulator

log = structlog.get_logger("vision_app.simulator")

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address: /admin is open.")
@click.option("--port", default=0, show_default=True, help="0: a free port, printed in the first log line.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Keep the bill here, across restarts.")
@click.option("--streams", default=10, show_default=True, type=click.IntRange(min=1), help="In flight per client.")
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="ID:SECRET",
    help="Accept this pair, beside that of GIGACHAT_CLIENT_ID and GIGACHAT_CLIENT_SECRET; may be given several times.",
)
@click.option("--tls-cert", type=_FILE, help="PEM: the certificate (chain) to serve TLS with.")
@click.option("--tls-key", type=_FILE, help="PEM: its private key.")
def main(
    host: str,
    port: int,
    home: Path | None,
    streams: int,
    accounts: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Run the GigaChat simulator until SIGTERM or SIGINT."""
    if not _is_loopback(host):
        raise click.BadParameter(f"{host} is not a loopback address; use 127.0.0.1", param_hint="--host")
    _configure_logging()
    config = SimulatorConfig(
        streams=streams,
        home=home,
        client_id=os.environ.get("GIGACHAT_CLIENT_ID") or None,
        client_secret=os.environ.get("GIGACHAT_CLIENT_SECRET") or None,
        accounts=tuple(map(_account, accounts)),
    )
    try:
        asyncio.run(_serve(config, host, port, _tls(tls_cert, tls_key)))
    except OSError as fault:
        raise click.ClickException(f"cannot start on {host}:{port}: {fault}. Change --port or --home.") from fault


async def _serve(config: SimulatorConfig, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_simulator(config, host, port, tls) as simulator:
        log.info(
            "simulator_listening",
            address=simulator.origin,
            base_url=simulator.base_url,
            auth_url=simulator.auth_url,
            admin_url=simulator.admin_url,
            streams=config.streams,
        )
        await stop.wait()
    log.info("simulator_stopped")


def _account(text: str) -> tuple[str, str]:
    client_id, _, secret = text.partition(":")
    if not client_id or not secret:
        raise click.BadParameter(f"{text!r} is not ID:SECRET", param_hint="--account")
    return client_id, secret


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _configure_logging() -> None:
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )


if __name__ == "__main__":
    main()
