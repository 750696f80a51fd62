"""`vision budget …`, `vision pause`, `vision resume`: a tenant's budget, through the HTTP API of the running worker.

The API accepts a change first, and the budget actor applies it right after; the commands wait a few seconds for the
effect. Exit code 0: done, or shown; 1: failed; the text says what to do next.
"""

from __future__ import annotations

import difflib
import getpass
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click
import httpx
from rich.console import Console
from rich.table import Table

from vision_app.operations.connections import postgres_of, run
from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings, parse_tokens
from vision_app.stack.ports import reachable
from vision_app.stores.posts import PostsReader
from vision_app.texts import heard, noted, said, say
from vision_app.web.auth import ALL_TENANTS

TIMEOUT_SECONDS = 15
EFFECT_SECONDS = 10.0
LOOK_SECONDS = 0.1
SHOWN_TENANTS = 10
EXIT_UNKNOWN = 3
AMOUNTS = {
    "limit": noted("limit"),
    "spent": noted("spent"),
    "reserved": noted("reserved"),
    "remaining": noted("remaining"),
}

State = dict[str, Any]

_tenant = click.argument("tenant", required=False)
_all = click.option("--all", "everybody", is_flag=True, help="Every tenant that Postgres knows.")
_json = click.option("--json", "as_json", is_flag=True, help="For scripts.")


class BudgetApi:
    """The worker's API as one operator sees it. Raises ClickException, saying what to do, on anything but success."""

    def __init__(
        self,
        settings: Settings,
        tenant: str | None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport, self._sleep = transport, sleep
        self.tenant = tenant or settings.s3_default_tenant_id
        self._base = base_url(settings)
        self._path = f"/api/v1/budget/{quote(self.tenant, safe='')}"
        self._headers = _headers(settings, self.tenant)

    def ask(self, method: str, path: str = "", **more: Any) -> State:
        """Send one request. After a 429 (`--all` of many tenants) wait for Retry-After and repeat it."""
        while (answer := self._ask(method, path, **more)).status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._sleep(float(answer.headers.get("Retry-After", 1)))
        if answer.is_success:
            state: State = answer.json()
            return state
        raise click.ClickException(_refusal(answer))

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        url = self._base + self._path + path
        try:
            with httpx.Client(transport=self._transport, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                return client.request(method, url, headers=self._headers, **more)
        except httpx.TransportError as fault:
            raise click.ClickException(
                say(
                    "no worker answers at {address}: {fault}; start one with `vision up`, or set VISION_API_HOST "
                    "and VISION_API_PORT to where it listens",
                    address=self._base,
                    fault=fault or type(fault).__name__,
                )
            ) from fault

    def state(self) -> State:
        return self.ask("GET")

    def change(self, method: str, path: str, done: Callable[[State], bool], **more: Any) -> State:
        """Send a command and wait for its effect. Returns the state that shows the effect."""
        self.ask(method, path, **more)
        return self.wait(done)

    def wait(self, done: Callable[[State], bool]) -> State:
        """The first state for which `done` is true; fails after EFFECT_SECONDS."""
        deadline = time.monotonic() + EFFECT_SECONDS
        while not done(state := self.state()):
            if time.monotonic() > deadline:
                raise click.ClickException(
                    say(
                        "accepted, but not to be seen after {seconds:g} s; look again with `vision "
                        "budget show`, and with `vision doctor` if it does not come",
                        seconds=EFFECT_SECONDS,
                    )
                )
            self._sleep(LOOK_SECONDS)
        return state


def base_url(settings: Settings) -> str:
    """The address of these settings' worker, as seen from this machine."""
    return f"http://{reachable(settings.vision_api_host)}:{settings.vision_api_port}"


@click.group("budget")
def budget() -> None:
    """What tenants spent and may spend. Without TENANT: S3_DEFAULT_TENANT_ID."""


@budget.command()
@_tenant
@_json
def show(tenant: str | None, as_json: bool) -> None:
    """Limit, spending, reservations and the queue of TENANT. Exit code 3 if no such tenant is known."""
    settings = load_settings()
    show_budget(BudgetApi(settings, tenant), lambda: run(_tenants(settings)), as_json)


def show_budget(api: BudgetApi, tenants: Callable[[], list[str]], as_json: bool) -> None:
    """Print a tenant's budget; exit with 3 if it is not among `tenants` and the worker does not know it either."""
    state = api.state()
    _print(state, as_json)
    if not state["known"] and (others := _others(tenants(), api.tenant)) is not None:
        known = _printable(", ".join(others[:SHOWN_TENANTS])) or say("none")
        more = say(" and more") if len(others) > SHOWN_TENANTS else ""
        click.echo(
            say(
                "No such tenant is known: no post of {tenant} has been read and nobody has changed its budget; "
                "above is what it would begin with. Known: {known}{more}.",
                tenant=_printable(api.tenant),
                known=known,
                more=more,
            ),
            err=True,
        )
        sys.exit(EXIT_UNKNOWN)


@budget.command("set")
@click.argument("limit")
@_tenant
@_json
def set_limit(limit: str, tenant: str | None, as_json: bool) -> None:
    """Let TENANT spend LIMIT tokens per UTC day; `default` for VISION_MAX_DAILY_TOKENS."""
    wanted = _tokens(limit)

    def done(state: State) -> bool:
        return bool(state["default_limit"] if wanted is None else state["limit"] == wanted)

    _print(BudgetApi(load_settings(), tenant).change("PUT", "", done, json={"limit": wanted}), as_json)


@budget.command()
@_tenant
@_json
def reset(tenant: str | None, as_json: bool) -> None:
    """Set what TENANT has spent today to zero; tasks that waited for money go on."""
    api = BudgetApi(load_settings(), tenant)
    before = api.state()["spent"]
    _print(api.change("POST", "/reset", lambda state: state["spent"] < before or before == 0), as_json)


@budget.group()
def parked() -> None:
    """Tasks that wait for money or for a slot."""


@parked.command("ls")
@_tenant
@click.option("--start", type=click.IntRange(min=0), default=0, help="The first number to show.")
@click.option("--count", type=click.IntRange(1, 1000), default=100, show_default=True)
@_json
def list_parked(tenant: str | None, start: int, count: int, as_json: bool) -> None:
    """The queue of TENANT, first in first out."""
    answer = BudgetApi(load_settings(), tenant).ask("GET", "/parked", params={"start": start, "count": count})
    if as_json:
        _dump(answer)
        return
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    table = Table(*said("number", "post", "sha256", "tokens", "waits", "deferred", "trace"), box=None)
    for task in answer["tasks"]:
        waits = say("{seconds} s", seconds=round(max(0.0, time.time() - task["since_ms"] / 1000)))
        deferred = say("yes") if task["announced"] else say("no")
        cells = (task["number"], task["post_id"], task["sha256"][:12], task["estimate"], waits, deferred)
        table.add_row(*(_printable(str(cell)) for cell in (*cells, task["trace_id"])))
    console.print(table)
    console.print(say("{waiting} waiting", waiting=answer["waiting"]))
    if answer["next_start"] is not None:
        console.print(say("more: --start {next_start}", next_start=answer["next_start"]))


@parked.command("drop")
@click.argument("number", type=click.IntRange(min=0), required=False)
@click.option("--tenant", help="Default: S3_DEFAULT_TENANT_ID.")
@click.option("--all", "everything", is_flag=True, help="All tasks that wait.")
@_json
def drop(number: int | None, tenant: str | None, everything: bool, as_json: bool) -> None:
    """Give up the task with this NUMBER: its post is answered as skipped. `vision replay` can bring it back."""
    if (number is None) == (not everything):
        raise click.UsageError(say("give either a NUMBER of `vision budget parked ls` or --all"))
    api = BudgetApi(load_settings(), tenant)
    if everything:
        waiting = api.ask("GET", "/parked", params={"count": 1000})["tasks"]
        last = waiting[-1]["number"] if waiting else -1
        state = api.change("DELETE", "/parked", lambda _: not _is_waiting(api, last))
    else:
        state = api.change("DELETE", f"/parked/{number}", lambda _: not _is_waiting(api, number))
    _print(state, as_json)


@click.command()
@_tenant
@_all
@_json
def pause(tenant: str | None, everybody: bool, as_json: bool) -> None:
    """Start nothing new for TENANT, or for --all; calls in flight end, other work waits."""
    _switch("/pause", tenant, everybody, as_json)


@click.command()
@_tenant
@_all
@_json
def resume(tenant: str | None, everybody: bool, as_json: bool) -> None:
    """Continue the work of TENANT, or of --all paused tenants, after `vision pause`."""
    _switch("/resume", tenant, everybody, as_json)


def _switch(path: str, tenant: str | None, everybody: bool, as_json: bool) -> None:
    """Without TENANT only the default tenant is switched. Report which tenant was affected, as the others go on."""
    settings, paused = load_settings(), path == "/pause"
    done = say("paused") if paused else say("going on")
    if everybody:
        if tenant is not None:
            raise click.UsageError(say("give either TENANT or --all"))
        _switch_all(settings, path, as_json, done)
        return
    api = BudgetApi(settings, tenant)
    state = api.change("POST", path, lambda state: bool(state["paused"]) is paused)
    _print(state, as_json)
    if tenant is None:
        click.echo(
            say(
                "Only {tenant} (S3_DEFAULT_TENANT_ID) is {done}, as no TENANT was given. Others: `vision "
                "{command} TENANT`; all: `vision {command} --all`.",
                tenant=_printable(api.tenant),
                done=done,
                command=path[1:],
            ),
            err=True,
        )


def _switch_all(settings: Settings, path: str, as_json: bool, done: str) -> None:
    paused = path == "/pause"
    apis = [BudgetApi(settings, tenant) for tenant in run(_tenants(settings))]
    apis = [api for api in apis if bool(api.state()["paused"]) is not paused]
    for api in apis:
        api.ask("POST", path)
    states = [api.wait(lambda state: bool(state["paused"]) is paused) for api in apis]
    if as_json:
        click.echo(json_text(states))
        return
    for state in states:
        click.echo(
            say(
                "{tenant_id}: {done}, {open_grants} in work, {waiting} waiting",
                tenant_id=_printable(state["tenant_id"]),
                done=done,
                open_grants=state["open_grants"],
                waiting=state["waiting"],
            )
        )
    click.echo(say("{count} tenants {done} that were not before.", count=len(states), done=done))
    if paused:
        click.echo(
            say("Tenants nobody has seen yet are not paused: FEATURE_VISION_ENABLED=false and a restart stops reading.")
        )


def _others(known: list[str], tenant: str) -> list[str] | None:
    """The known tenants, the most similar names first; None if this one is among them."""
    if tenant in known:
        return None
    near = difflib.get_close_matches(tenant, known, n=SHOWN_TENANTS)
    return [*near, *sorted(set(known) - set(near))]


async def _tenants(settings: Settings) -> list[str]:
    async with postgres_of(settings) as pool:
        seen = await PostsReader(pool).tenants()
    return sorted({*seen, settings.s3_default_tenant_id})


def _is_waiting(api: BudgetApi, number: int | None) -> bool:
    tasks = api.ask("GET", "/parked", params={"start": max(0, number or 0), "count": 1})["tasks"]
    return bool(tasks) and tasks[0]["number"] == number


def _tokens(limit: str) -> int | None:
    if limit == "default":
        return None
    digits = limit.replace("_", "")
    if not digits.isdecimal():
        raise click.BadParameter(say("give a number of tokens, or `default`"), param_hint="LIMIT")
    return int(digits)


def _headers(settings: Settings, tenant: str) -> dict[str, str]:
    """The token for all tenants if there is one, else the tenant's own."""
    tokens = parse_tokens(settings.vision_api_tokens)
    by_tenant = {bound: token for token, bound in tokens.items()}
    token = by_tenant.get(ALL_TENANTS) or by_tenant.get(tenant)
    return {"X-Operator": _operator(), **({"Authorization": f"Bearer {token}"} if token else {})}


def _operator() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return f"cli {name}".encode("ascii", "replace").decode()[:64]


def _refusal(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        faults = error.get("details", {}).get("faults", [])
        text = "; ".join(
            [heard(error["message"]), *(f"{fault['name']}: {heard(fault['problem'])}" for fault in faults)]
        )
    except (ValueError, KeyError, TypeError):
        text = say("the answer is not this service's; is VISION_API_PORT another program's?")
    return _printable(f"{answer.status_code}: {text}")


def _print(state: State, as_json: bool) -> None:
    if as_json:
        _dump(state)
        return
    paused = (
        say("   PAUSED: `vision resume {whose}` lets work go on", whose=shlex.quote(_printable(state["tenant_id"])))
        if state["paused"]
        else ""
    )
    click.echo(say("tenant     {tenant_id}{paused}", tenant_id=_printable(state["tenant_id"]), paused=paused))
    if state.get("note"):
        click.echo(_printable(heard(state["note"])))
    click.echo(say("day        {day} UTC, ends {reset_at}", day=state["day"], reset_at=state["reset_at"]))
    for name, text in AMOUNTS.items():
        click.echo(say("{name:<10} {tokens:>12,} tokens", name=say(text), tokens=state[name]))
    click.echo(say("in work    {open_grants:>12,}", open_grants=state["open_grants"]))
    click.echo(say("waiting    {waiting:>12,}", waiting=state["waiting"]))


def _dump(answer: State) -> None:
    click.echo(json_text(answer))


def _printable(text: str) -> str:
    """Without control characters, which could control the operator's terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
