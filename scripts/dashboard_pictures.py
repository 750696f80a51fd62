"""Draw the panels of the Grafana dashboard from its own queries: `python scripts/dashboard_pictures.py PROMETHEUS`.

For installations without a Grafana at hand, and to see that every query returns what its panel needs. PROMETHEUS is the
path of a Prometheus binary. It scrapes the worker that `vision up` runs while posts with new pictures are published for
some minutes; then each row of the dashboard is drawn, in Grafana's grid, and photographed by Debian's Chromium (`make
tools`). The drawing is ours, and plainer than Grafana's. The row of the exporters is left out: `vision up` has none.
"""

from __future__ import annotations

import asyncio
import html
import io
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from PIL import Image
from playwright.async_api import async_playwright

from vision_app.client import AsyncVision
from vision_app.lab.soak.traffic import draw_picture
from vision_app.settings import load_settings

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "vision.json"
FOLDER = ROOT / "docs" / "media"
MINUTES = 6.0
SCRAPE_SECONDS = 5
RATE_INTERVAL = "30s"
TENANTS = ("channel-news", "channel-art", "channel-shop")
COLORS = 64
COLUMN_PX, ROW_PX = 50, 34
PALETTE = ("#3274d9", "#e0752d", "#56a64b", "#a352cc", "#d0393d", "#0f9b8e", "#b8860b", "#7c7c86")
SHOWN_SERIES = 6

Series = tuple[str, list[tuple[float, float]]]


def panels_of_rows() -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The rows of the dashboard by title, each with its panels."""
    row, panels = "", list[Mapping[str, Any]]()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] == "row":
            if panels:
                yield row, panels
            row, panels = panel["title"], []
        else:
            panels.append(panel)
    yield row, panels


def write_configuration(target: Path, metrics_port: int) -> None:
    """Write Prometheus' configuration: our rules, and the worker on this machine."""
    interval = f"{SCRAPE_SECONDS}s"
    worker = {"job_name": "vision", "static_configs": [{"targets": [f"127.0.0.1:{metrics_port}"]}]}
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(ROOT / "deploy" / "prometheus" / "alerts.yml")],
        "scrape_configs": [worker],
    }
    target.write_text(yaml.safe_dump(config))


@asynccontextmanager
async def prometheus(program: str, metrics_port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus with our rules that scrapes the worker."""
    with tempfile.TemporaryDirectory() as folder:
        write_configuration(Path(folder, "prometheus.yml"), metrics_port)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            await process.wait()


async def publish(minutes: float) -> None:
    """Publish posts of three tenants: one with a new picture each two seconds, and sometimes the same once more."""
    until, number, begun = time.monotonic() + 60 * minutes, 0, int(time.time())
    async with AsyncVision(TENANTS[0]) as first, AsyncVision(TENANTS[1]) as second, AsyncVision(TENANTS[2]) as third:
        while time.monotonic() < until:
            vision = (first, second, third)[number % 3]
            picture = await vision.upload(await asyncio.to_thread(draw_picture, 0, begun + number), "image/png")
            for again in range(2 if number % 4 == 0 else 1):
                await vision.publish(f"post-{begun + number}-{again}", [picture])
            number += 1
            await asyncio.sleep(2)


async def ask(client: httpx.AsyncClient, panel: Mapping[str, Any], since: float, until: float) -> list[Series]:
    """What a panel's queries return, over the whole time, each with its legend."""
    found: list[Series] = []
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$tenant", ".*")
        given = {"query": query, "start": since, "end": until, "step": SCRAPE_SECONDS}
        answer = (await client.get("/api/v1/query_range", params=given)).raise_for_status().json()
        for series in answer["data"]["result"]:
            values = [(float(at), float(value)) for at, value in series["values"] if value not in ("NaN", "+Inf")]
            found.append((legend(target.get("legendFormat") or "", series["metric"]), values))
    return [series for series in found if series[1]]


def legend(form: str, labels: Mapping[str, str]) -> str:
    if not form or form == "__auto":
        return ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__") or "value"
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), form)


def amount(value: float, unit: str | None) -> str:
    """A value in its unit, as short as on a panel."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "gbytes":
        value, unit = value * 2**30, "bytes"
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024 or name == "GiB":
                return f"{value:.3g} {name}"
            value /= 1024
    text = f"{value / 1000:.3g}k" if abs(value) >= 10_000 else f"{value:.3g}"
    return f"{text}/s" if unit == "ops" else text


def drawn(panel: Mapping[str, Any], found: Sequence[Series], since: float, until: float, top: int) -> str:
    """One panel as HTML, at its place in the grid."""
    place, unit = panel["gridPos"], panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
    width, height = place["w"] * COLUMN_PX - 8, place["h"] * ROW_PX - 8
    body = '<p class="none">No data</p>'
    if panel["type"] == "stat":
        value = found[0][1][-1][1] if found else None
        body = f'<p class="stat">{amount(value, unit) if value is not None else "No data"}</p>'
    elif panel["type"] == "bargauge" and found:
        body = "".join(bar(name, values[-1][1], unit) for name, values in found[:SHOWN_SERIES])
    elif found:
        body = chart(found, unit, since, until, width - 16, height - 62)
    style = f"left:{place['x'] * COLUMN_PX}px;top:{(place['y'] - top) * ROW_PX}px;width:{width}px;height:{height}px"
    return f'<section style="{style}"><h2>{html.escape(panel["title"])}</h2>{body}</section>'


def bar(name: str, value: float, unit: str | None) -> str:
    share = min(100.0, 100 * value)
    return f'<p class="bar"><i style="width:{share:.1f}%"></i><b>{html.escape(name)}: {amount(value, unit)}</b></p>'


def chart(found: Sequence[Series], unit: str | None, since: float, until: float, width: int, height: int) -> str:
    """Lines over time, with the largest value and the times at the edges, and a legend of the first series."""
    most = max((value for _, values in found for _, value in values), default=0.0) or 1.0
    lines = "".join(
        f'<polyline fill="none" stroke="{PALETTE[index % len(PALETTE)]}" stroke-width="1.6" points="{points}"/>'
        for index, (_, values) in enumerate(found)
        if (
            points := " ".join(
                f"{width * (at - since) / (until - since):.1f},{height - height * max(value, 0.0) / most:.1f}"
                for at, value in values
            )
        )
    )
    names = " ".join(
        f'<span style="color:{PALETTE[index % len(PALETTE)]}">■ {html.escape(name[:34])}</span>'
        for index, (name, _) in enumerate(found[:SHOWN_SERIES])
    )
    more = f" and {len(found) - SHOWN_SERIES} more" if len(found) > SHOWN_SERIES else ""
    clock = "%H:%M"
    edges = f"<em>{time.strftime(clock, time.gmtime(since))}–{time.strftime(clock, time.gmtime(until))} UTC</em>"
    frame = f'<path d="M0 .5H{width}M0 {height - 0.5}H{width}" stroke="#ddd"/>'
    svg = f'<svg width="{width}" height="{height}">{frame}{lines}</svg>'
    return f'<small>{amount(most, unit)}{edges}</small>{svg}<p class="legend">{names}{more}</p>'


STYLE = """
body { margin: 0; background: #f4f5f5; font: 12px "DejaVu Sans", sans-serif; color: #24292e; position: relative; }
h1 { font-size: 15px; margin: 0; padding: 8px; height: 16px; }
section { position: absolute; margin: 36px 4px 0; padding: 6px 8px; box-sizing: border-box; overflow: hidden; }
section { background: #fff; border: 1px solid #d8d9da; }
h2 { font-size: 12px; margin: 0 0 4px; }
p { margin: 0; }
small { color: #666; display: block; }
em { float: right; font-style: normal; }
.none { color: #888; padding-top: 60px; text-align: center; }
.stat { font-size: 34px; text-align: center; padding-top: 18px; color: #37872d; }
.legend { font-size: 10px; line-height: 1.25; }
.bar { position: relative; background: #eee; margin: 10px 0; height: 24px; }
.bar i { position: absolute; inset: 0 auto 0 0; background: #96d98d; }
.bar b { position: relative; padding: 4px 8px; display: block; font-weight: 500; }
"""


async def photograph(pages: Iterable[tuple[str, str, int]]) -> None:
    """Write a picture of each page: its file, its HTML and its height in pixels."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is not installed; as root on Debian: make tools")
    async with async_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=program, args=options)
        for name, content, height in pages:
            page = await browser.new_page(viewport={"width": 24 * COLUMN_PX, "height": height})
            await page.set_content(content)
            shot = Image.open(io.BytesIO(await page.screenshot()))
            shot.quantize(COLORS).save(FOLDER / f"{name}.png", optimize=True)
        await browser.close()


async def make(program: str, minutes: float) -> None:
    """Publish, ask and draw. Says which panels have no data."""
    since, pages = time.time(), list[tuple[str, str, int]]()
    async with prometheus(program, load_settings().metrics_port) as client:
        await publish(minutes)
        await asyncio.sleep(3 * SCRAPE_SECONDS)
        until = time.time()
        for title, panels in panels_of_rows():
            if "exporters" in title:
                continue
            top = min(panel["gridPos"]["y"] for panel in panels)
            bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
            bodies = []
            for panel in panels:
                found = await ask(client, panel, since, until)
                if not found:
                    print(f"no data: {title}: {panel['title']}")
                bodies.append(drawn(panel, found, since, until, top))
            content = f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{''.join(bodies)}"
            name = re.sub(r"\W+", "-", title.lower()).strip("-")
            pages.append((f"dashboard-{name}", content, (bottom - top) * ROW_PX + 40))
    FOLDER.mkdir(exist_ok=True)
    await photograph(pages)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("say where Prometheus' program is, for example: dashboard_pictures.py /usr/bin/prometheus")
    asyncio.run(make(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else MINUTES))
