"""What each process of a running worker (VISION_WORKERS) takes: memory, and connections by service.

`python scripts/process_costs.py`, with the settings of the worker; it needs the right to see that worker's processes.
MB are 10^6 bytes. `own` is what would be free if the process ended (USS); `resident` also counts shared pages (RSS).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import httpx
import psutil

from vision_app.settings import Settings, load_settings
from vision_app.stack.ports import reachable

DEFAULT_PORTS = {"redis": 6379, "postgres": 5432, "neo4j": 7687, "s3": 443}


def main() -> None:
    """Print a line for each process and its decoders."""
    settings = load_settings()
    answer = httpx.get(
        f"http://{reachable(settings.vision_api_host)}:{settings.vision_api_port}/readyz", trust_env=False
    )
    processes = {one["name"]: psutil.Process(one["pid"]) for one in answer.json().get("processes", ()) if one["pid"]}
    if not processes:
        raise SystemExit("no worker with several processes answers here; start one with VISION_WORKERS=2")
    supervisor = next(iter(processes.values())).parent()
    ports = _ports(settings)
    for name, process in {"supervisor": supervisor, **processes}.items():
        if process is None:
            continue
        children = process.children(recursive=True) if name != "supervisor" else []
        found = _connections(process, ports)
        services = ", ".join(f"{service} {count}" for service, count in sorted(found.items()))
        print(f"{name}: {_memory([process])}; decoders: {len(children)}, {_memory(children)}; connections: {services}")


def _memory(processes: Iterable[psutil.Process]) -> str:
    told = [process.memory_full_info() for process in processes]
    return f"{sum(one.rss for one in told) / 1e6:.0f} MB resident, {sum(one.uss for one in told) / 1e6:.0f} own"


def _ports(settings: Settings) -> Mapping[int, str]:
    urls = {
        "redis": settings.redis_url.get_secret_value(),
        "postgres": settings.database_url.get_secret_value(),
        "neo4j": settings.neo4j_uri,
        "s3": settings.s3_endpoint_url,
        "gigachat": settings.gigachat_base_url,
    }
    ports = {urlsplit(url).port or DEFAULT_PORTS.get(name, 443): name for name, url in urls.items()}
    brokers = [server.strip().rpartition(":")[2] for server in settings.kafka_bootstrap_servers.split(",")]
    return ports | {int(port): "kafka" for port in brokers}


def _connections(process: psutil.Process, ports: Mapping[int, str]) -> Counter[str]:
    """Established ones that the process has opened, by service."""
    remote = [one.raddr.port for one in process.net_connections("tcp") if one.raddr and one.status == "ESTABLISHED"]
    return Counter(ports.get(port, "others") for port in remote)


if __name__ == "__main__":
    main()
