"""Which metrics and labels a PromQL expression names, and whether the catalogue has them. The parser is promtool."""

from __future__ import annotations

import re

from prometheus_client import Counter, Gauge, Histogram

from vision_app.telemetry import metrics

OF_THE_SCRAPE = frozenset({"job", "instance", "process"})
"""`process`: of the page of a worker with several processes (VISION_WORKERS)."""
OF_THE_EXPORTERS: dict[str, frozenset[str]] = {
    "redis_memory_used_bytes": frozenset(),
    "redis_memory_max_bytes": frozenset(),
    "redis_aof_last_write_status": frozenset(),
    "redis_aof_last_bgrewrite_status": frozenset(),
    "redis_connected_clients": frozenset(),
    "redis_commands_processed_total": frozenset(),
    "kafka_topic_partition_under_replicated_partition": frozenset({"topic", "partition"}),
    "kafka_consumergroup_lag_sum": frozenset({"consumergroup", "topic"}),
    "pg_stat_activity_count": frozenset({"datname", "state"}),
    "pg_settings_max_connections": frozenset({"server"}),
    "pg_database_size_bytes": frozenset({"datname"}),
}
"""Series of the exporters that docker-compose.yml starts, with the labels that are used here. Where they were seen:
docs/deployment.md.
"""
KEYWORDS = frozenset({"and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring", "group_left"})
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)(?![\w:]*\s*\()\s*(?:\{([^}]*)\})?")


def catalogue() -> dict[str, frozenset[str]]:
    """Every sample name that is exported, with its labels."""
    found = {"up": OF_THE_SCRAPE, "ALERTS": frozenset({"alertname", "alertstate", "severity"})}
    found |= {family.name: frozenset() for family in metrics.REGISTRY.collect() if family.name.startswith("process_")}
    found |= OF_THE_EXPORTERS
    for metric in vars(metrics).values():
        if not isinstance(metric, Counter | Gauge | Histogram):
            continue
        labels, name = frozenset(metric._labelnames), metric._name
        match metric:
            case Counter():
                found[f"{name}_total"] = labels
            case Histogram():
                found |= {f"{name}_sum": labels, f"{name}_count": labels, f"{name}_bucket": labels | {"le"}}
            case _:
                found[name] = labels
    return {name: labels | OF_THE_SCRAPE for name, labels in found.items()}


def named(expression: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics an expression selects, each with the labels its selectors name; and the labels it groups by."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    groups = {label.strip() for inside in _GROUPING.findall(plain) for label in inside.split(",") if label.strip()}
    plain = re.sub(r"\[[^]]*\]", "", _GROUPING.sub(" ", plain))
    selected: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(plain):
        if name not in KEYWORDS:
            selected.setdefault(name, set()).update(re.findall(r"(\w+)\s*[=!]", matchers))
    return selected, groups


def faults(expression: str) -> list[str]:
    """What an expression names that the catalogue does not have."""
    known = catalogue()
    selected, groups = named(expression)
    found = [f"{name} does not exist" for name in selected if name not in known]
    found += [f"{name} has no label {label}" for name in selected for label in selected[name] - known.get(name, set())]
    grouped = set().union(*(known.get(name, set()) for name in selected))
    return found + [f"nothing in it has a label {label}" for label in groups - grouped]
