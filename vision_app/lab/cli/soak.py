"""`vision soak`: a long run with kills and outages, and its account. The work is in `vision_app.lab.soak`."""

from __future__ import annotations

import secrets
import sys
import time
from contextlib import AbstractContextManager, nullcontext

import click
from rich.console import Console

from vision_app.lab.cli.own_services import finish, on_own_services, run_options
from vision_app.lab.faults import Peers, between_brokers
from vision_app.lab.soak.brokers import Brokers
from vision_app.lab.soak.plan import Disturbance
from vision_app.lab.soak.report import as_json, show
from vision_app.lab.soak.run import SoakOptions, soak
from vision_app.settings import vision_home
from vision_app.stack.home import Home

EXIT_FAILED = 1
COUNT = click.IntRange(min=0)
OTHER_DISTURBANCES: dict[Disturbance, int] = {"freeze": 2, "restart": 1, "controller": 1, "rolling": 1}


@click.command(name="soak")
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10, show_default=True, help="Of traffic.")
@click.option("--posts", type=click.IntRange(min=1), default=1000, show_default=True, help="Spread over the minutes.")
@click.option("--kills", type=COUNT, default=50, show_default=True, help="SIGKILLs at random moments.")
@click.option("--terminations", type=COUNT, default=3, show_default=True, help="SIGTERMs at random moments.")
@click.option("--freezes", type=COUNT, default=2, show_default=True, help="SIGSTOPs longer than the session.")
@click.option(
    "--outage-seconds", type=click.FloatRange(min=0), default=15, show_default=True, help="Each service once; 0: none."
)
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Of Kafka.")
@click.option("--broker-kills", type=COUNT, default=10, show_default=True, help="SIGKILLs of brokers, of three.")
@click.option(
    "--partitions", type=COUNT, default=2, show_default=True, help="Brokers cut off from the others for 20 s."
)
@click.option(
    "--calm-provider", is_flag=True, help="Its answers take their time, none goes wrong: what kills alone cost."
)
@click.option("--seed", type=int, default=None, help="Repeat a run; chosen and shown when not given.")
@click.option("--patience", type=click.FloatRange(min=0.1), default=10, show_default=True, help="Minutes for the rest.")
@run_options(workers=2)
def soak_command(
    minutes: float,
    posts: int,
    workers: int,
    kills: int,
    terminations: int,
    freezes: int,
    outage_seconds: float,
    brokers: str,
    broker_kills: int,
    partitions: int,
    calm_provider: bool,
    seed: int | None,
    patience: float,
    keep: bool,
    machine_readable: bool,
) -> None:
    """Send posts for some minutes while workers are killed and services fail, then check the results.

    With three brokers they are killed, cut off from each other, frozen and restarted, too: the active controller once,
    and all in turn once. Runs on its own services beside those of `vision up`; GigaChat is simulated. Exit code 0 only
    if every input ended exactly once, nothing was published twice and no budget was overspent.
    """
    console = Console(file=sys.stderr if machine_readable else sys.stdout)
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    home = vision_home() / "soak" / f"{chosen}-{int(time.time())}"
    wish = SoakOptions(
        home=home,
        seed=chosen,
        posts=posts,
        minutes=minutes,
        workers=workers,
        kills=kills,
        terminations=terminations,
        freezes=freezes,
        outage_seconds=outage_seconds,
        calm_provider=calm_provider,
        patience_minutes=patience,
        brokers=int(brokers),
        disturbances={"kill": broker_kills, "cut": partitions, **OTHER_DISTURBANCES},
    )
    console.print(f"Seed {chosen}", highlight=False)
    with _peers(wish) as peers:
        struck = Brokers(Home(home), peers, wish.brokers) if peers else None
        result = on_own_services(
            console, home, lambda variables, tell: soak(wish, variables, tell, struck), brokers=wish.brokers
        )
    show(console, result)
    finish(console, home, as_json(result), machine_readable=machine_readable, keep=keep or not result.ok)
    sys.exit(0 if result.ok else EXIT_FAILED)


def _peers(wish: SoakOptions) -> AbstractContextManager[Peers | None]:
    """What cuts brokers off from each other, if there are several."""
    return between_brokers(Home(wish.home), wish.brokers) if wish.brokers > 1 else nullcontext()
