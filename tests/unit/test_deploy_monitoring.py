"""deploy/prometheus and deploy/grafana: every name exists, every alert fires when it should and says what to do.

Tests with promtool are skipped if it is missing: `make tools` installs it (Debian's package prometheus has it).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.promql import faults, named
from tests.unit.test_deploy_compose import COMPOSE
from vision_app.cli import COMMANDS

DEPLOY = Path(__file__).parents[2] / "deploy"
GUIDE = Path(__file__).parents[1] / "acceptance" / "guide.md"
RULES = DEPLOY / "prometheus" / "alerts.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
SCRAPE = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "vision.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: `make tools` gets it"
)

HEALTHY = {
    'up{job="vision", instance="w"}': "1x800",
    'vision_ready{instance="w"}': "1x800",
    'vision_ready{instance="v", process="v-2"}': "0x20 1x800",
    'vision_process_restarts_total{instance="v", process="v-2"}': "0x20 1x800",
    'vision_stalled_seconds{stage="policy", instance="w"}': "0x800",
    'stream_consumer_lag{stream="s", group="g"}': "0 7 0 40 0x800",
    'vision_pending_older_than_seconds{percentile="max", consumer_group="g"}': "0 20 55 0x800",
    'vision_consumer_lag{topic="vision.analysis"}': "0 10 30 0 5 0x800",
    "vision_redis_trimmed_entries_total": "0x800",
    'vision_unexpected_errors_total{where="web"}': "0x800",
    'events_dlq_total{base_event="b", error_code="unreadable"}': "0x800",
    'vision_sink_waiting{sink="neo4j"}': "0 1 1 0x800",
    'circuit_breaker_state{name="gigachat", state="open"}': "0 1 1 1 0x800",
    'vision_analysis_requests_total{status="success", provider="gigachat", tenant_id="t", reason="none"}': "0+10x800",
    'vision_analysis_requests_total{status="error", provider="gigachat", tenant_id="t", reason="outage"}': "0+0.1x800",
    'vision_analysis_duration_seconds_bucket{provider="gigachat", status="success", le="10"}': "0+10x800",
    'vision_analysis_duration_seconds_bucket{provider="gigachat", status="success", le="+Inf"}': "0+10x800",
    'vision_budget_usage_gauge{tenant_id="t"}': "0+100x800",
    'vision_budget_reserved_gauge{tenant_id="t"}': "1400x800",
    'vision_budget_limit_gauge{tenant_id="t"}': "250000x800",
    'vision_budget_parked_gauge{tenant_id="t"}': "0 4 9 0 3 0x800",
    'vision_budget_gate_blocks_total{tenant_id="t", reason="daily_limit"}': "0+1x800",
    "vision_budget_asked_again_total": "0x800",
    'vision_grants_returned_total{reason="unsigned"}': "0x800",
    'vision_grants_returned_total{reason="too_small"}': "0+1x800",
    'vision_usage_unknown_total{reason="zero"}': "0x800",
    'storage_bucket_usage_gb{content_type="media", instance="w"}': "5x800",
    'storage_bucket_usage_gb{content_type="media", instance="v"}': "5x800",
    'storage_bucket_limit_gb{content_type="total"}': "10x800",
    's3_operations_total{operation="put", result="success"}': "0+10x800",
    's3_operations_total{operation="put", result="error"}': "0x800",
    's3_upload_duration_seconds_bucket{le="0.5"}': "0+10x800",
    's3_upload_duration_seconds_bucket{le="+Inf"}': "0+10x800",
    'up{job="redis", instance="r"}': "0 1x800",
    'redis_memory_used_bytes{instance="r"}': "300x800",
    'redis_memory_max_bytes{instance="r"}': "512x800",
    'redis_memory_used_bytes{instance="no limit"}': "300x800",
    'redis_memory_max_bytes{instance="no limit"}': "0x800",
    'redis_aof_last_write_status{instance="r"}': "1x800",
    'redis_aof_last_bgrewrite_status{instance="r"}': "1x800",
    'kafka_topic_partition_under_replicated_partition{topic="t", partition="0"}': "0 1x20 0x800",
    'pg_stat_activity_count{datname="vision", state="idle", instance="p"}': "70x800",
    'pg_stat_activity_count{datname="vision", state="active", instance="p"}': "5x800",
    'pg_settings_max_connections{server="s", instance="p"}': "100x800",
}
"""A normal day: outages of seconds, a queue that moves, a bucket that two workers report. One sample per 15 s."""

ACTIVITY, MAXIMUM = 'pg_stat_activity_count{instance="p", state=', 'pg_settings_max_connections{instance="p"}'
REQUESTS = 'vision_analysis_requests_total{provider="gigachat", tenant_id="t", '
CALL, UPLOAD = (
    'vision_analysis_duration_seconds_bucket{provider="gigachat", status="success", ',
    "s3_upload_duration_seconds",
)
USAGE, LIMIT = 'storage_bucket_usage_gb{content_type="media"}', 'storage_bucket_limit_gb{content_type="total"}'
SICK: dict[str, tuple[str, dict[str, str], str, str]] = {
    # alert: (between two samples, the series, still quiet at, fires at)
    "VisionDown": ("15s", {'up{job="vision"}': "1x8 0x40"}, "3m", "5m"),
    "VisionNotReady": ("15s", {'vision_ready{instance="w"}': "0x60"}, "4m", "6m"),
    "VisionWorkerNotReady": (
        "15s",
        {'vision_ready{instance="w"}': "0x80", 'vision_ready{instance="v"}': "1x80"},
        "9m",
        "11m",
    ),
    "VisionProcessRestarts": (
        "1m",
        {
            'vision_process_restarts_total{instance="w", process="w-1"}': "0x80",
            'vision_process_restarts_total{instance="w", process="w-2"}': "0x10 1 2 3 4x60",
        },
        "11m",
        "15m",
    ),
    "VisionStalled": (
        "15s",
        {'vision_stalled_seconds{stage="policy", instance="w"}': "0x8 125+15x40"},
        "2m",
        "2m15s",
    ),
    "VisionUnexpectedErrors": ("15s", {'vision_unexpected_errors_total{where="web"}': "0x8 1x40"}, "2m", "3m"),
    "VisionInputNotRead": ("15s", {'stream_consumer_lag{stream="s", group="g"}': "0x4 3x80"}, "5m", "12m"),
    "VisionPendingOld": (
        "15s",
        {'vision_pending_older_than_seconds{percentile="max", consumer_group="g"}': "0+15x80"},
        "5m",
        "9m",
    ),
    "VisionInputTrimmed": ("15s", {"vision_redis_trimmed_entries_total": "0x8 2x40"}, "2m", "3m"),
    "VisionBehind": ("30s", {'vision_consumer_lag{topic="vision.analysis"}': "0x2 1x90"}, "20m", "35m"),
    "VisionBehindForADay": ("5m", {'vision_consumer_lag{topic="vision.sink.neo4j"}': "0x2 9x400"}, "20h", "26h"),
    "VisionDeadLetters": (  # the counter appears with its first letter
        "15s",
        {'events_dlq_total{base_event="b", error_code="unreadable"}': "_x80 1x40"},
        "19m",
        "21m",
    ),
    "VisionDeadLettersMany": ("1m", {'events_dlq_total{base_event="b", error_code="x"}': "0+3x80"}, "20m", "50m"),
    "VisionAuditDiscrepancies": ("15s", {'vision_audits_total{result="discrepancies"}': "0x8 1x40"}, "2m", "3m"),
    "VisionQueueGaps": ("15s", {"vision_budget_queue_gaps_total": "0x8 1x40"}, "2m", "3m"),
    "VisionSinkWaiting": ("15s", {'vision_sink_waiting{sink="neo4j"}': "0x4 1x40"}, "5m", "7m"),
    "VisionSinkRejects": ("15s", {'vision_sink_rejected_total{sink="s3"}': "0x8 1x40"}, "2m", "3m"),
    "VisionProviderDown": ("15s", {'circuit_breaker_state{name="gigachat", state="open"}': "0x4 1x40"}, "5m", "7m"),
    "VisionErrorRate": (
        "15s",
        {REQUESTS + 'status="success"}': "0+97x80", REQUESTS + 'status="error", reason="outage"}': "0+3x80"},
        "9m",
        "12m",
    ),
    "VisionErrorRateHigh": (
        "15s",
        {REQUESTS + 'status="success"}': "0+90x80", REQUESTS + 'status="error", reason="outage"}': "0+10x80"},
        "9m",
        "12m",
    ),
    "VisionLatency": (
        "15s",
        {CALL + 'le="15"}': "0+80x100", CALL + 'le="30"}': "0+100x100", CALL + 'le="+Inf"}': "0+100x100"},
        "9m",
        "13m",
    ),
    "VisionCallsLost": ("1m", {"vision_calls_lost_total": "0x10 0+1x60"}, "10m", "25m"),
    "VisionProviderFilesLeft": ("1m", {"vision_provider_files_left_total": "0x10 1x60"}, "10m", "12m"),
    "VisionBudgetNearlySpent": (
        "15s",
        {
            'vision_budget_usage_gauge{tenant_id="t"}': "4700x8 4800x40",
            'vision_budget_limit_gauge{tenant_id="t"}': "5000x80",
        },
        "2m",
        "5m",
    ),
    "VisionBudgetOverrun": (
        "15s",
        {
            'vision_budget_usage_gauge{tenant_id="t"}': "4000x80",
            'vision_budget_reserved_gauge{tenant_id="t"}': "1000x8 1001x80",
            'vision_budget_limit_gauge{tenant_id="t"}': "5000x80",
        },
        "4m",
        "8m",
    ),
    "VisionTasksWait": ("1m", {'vision_budget_parked_gauge{tenant_id="t"}': "0 3x200"}, "90m", "125m"),
    "VisionQueueFull": (
        "15s",
        {'vision_budget_gate_blocks_total{tenant_id="t", reason="queue_full"}': "0x8 1x40"},
        "2m",
        "3m",
    ),
    "VisionEndingsReduced": ("15s", {'vision_endings_reduced_total{what="row"}': "0x8 1x40"}, "2m", "3m"),
    "VisionWholeLettersLost": ("15s", {'vision_whole_letters_total{result="failed"}': "0x8 1x40"}, "2m", "3m"),
    "VisionGrantsStale": ("15s", {'vision_budget_stale_grants_gauge{tenant_id="t"}': "0x4 1x40"}, "5m", "7m"),
    "VisionUnknownGrants": ("15s", {"vision_budget_unknown_grants_total": "0x8 1x40"}, "2m", "3m"),
    "VisionLedgerLost": ("15s", {"vision_budget_asked_again_total": "0x8 1x40"}, "2m", "3m"),
    "VisionGrantsReturned": ("15s", {'vision_grants_returned_total{reason="unsigned"}': "0x8 1x40"}, "2m", "3m"),
    "VisionUsageUnknown": ("15s", {'vision_usage_unknown_total{reason="zero"}': "0x8 1x40"}, "2m", "3m"),
    "VisionPolicyRefused": ("15s", {'vision_policy_reloads_total{result="refused"}': "0x8 1x40"}, "2m", "3m"),
    "VisionStorageFilling": ("1m", {USAGE: "8x5 9x40", LIMIT: "10x60"}, "10m", "20m"),
    "VisionStorageFull": ("1m", {USAGE: "9x5 9.5x40", LIMIT: "10x60"}, "5m", "10m"),
    "VisionCleanupShort": ("15s", {"storage_cleanup_shortfall_gb": "0x4 1.5x40"}, "5m", "7m"),
    "VisionCleanupFailed": ("15s", {"storage_cleanup_failures_total": "0x8 1x40"}, "2m", "3m"),
    "VisionQuotaViolations": (
        "1m",
        {'storage_quota_violations_total{tenant_id="t", reason="tenant_limit"}': "0x10 0+1x60"},
        "15m",
        "30m",
    ),
    "VisionS3Errors": (
        "15s",
        {
            's3_operations_total{operation="put", result="success"}': "0+95x80",
            's3_operations_total{operation="put", result="error"}': "0+5x80",
        },
        "9m",
        "12m",
    ),
    "VisionExporterDown": ("15s", {'up{job="kafka", instance="k"}': "1x8 0x60"}, "6m", "8m"),
    "VisionRedisFilling": (
        "15s",
        {'redis_memory_used_bytes{instance="r"}': "430x8 440x60", 'redis_memory_max_bytes{instance="r"}': "512x80"},
        "6m",
        "8m",
    ),
    "VisionRedisNotSaved": ("15s", {'redis_aof_last_bgrewrite_status{instance="r"}': "1x8 0x40"}, "2m", "4m"),
    "VisionKafkaUnderReplicated": (
        "15s",
        {'kafka_topic_partition_under_replicated_partition{topic="t", partition="0"}': "0x8 1x80"},
        "11m",
        "13m",
    ),
    "VisionPostgresConnections": (
        "15s",
        {ACTIVITY + '"idle"}': "60x80", ACTIVITY + '"active"}': "5x8 25x70", MAXIMUM: "100x80"},
        "6m",
        "8m",
    ),
    "VisionS3Slow": (
        "15s",
        {f'{UPLOAD}_bucket{{le="{le}"}}': f"0+{count}x100" for le, count in (("5", 1), ("10", 2), ("+Inf", 100))},
        "9m",
        "13m",
    ),
}


def expressions(panel: dict[str, Any]) -> list[str]:
    return [str(target["expr"]) for target in panel["targets"]]


def commands(text: str) -> set[str]:
    return set(re.findall(r"`vision ([a-z0-9]+)", text))


OF_COMPOSE = {"status": "docker compose ps", "up": "docker compose up -d", "logs": "docker compose logs worker"}
"""What replaces commands about processes where Docker Compose runs them; docs/operating.md has the same table."""


def in_compose(runbook: str) -> str:
    """The commands of a runbook as they are typed on a machine where `docker-compose.yml` runs the worker."""
    typed = []
    for command in re.findall(r"`vision ([^`]*)`", runbook):
        name, _, rest = command.partition(" ")
        piped = rest.partition(" | ")[2]
        told = OF_COMPOSE.get(name, f"docker compose exec worker vision {command}")
        typed.append(f"`{told}{f' | {piped}' if name in OF_COMPOSE and piped else ''}`")
    return ", ".join(dict.fromkeys(typed))


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_names_what_exists_and_the_command_to_begin_with(alert: str) -> None:
    rule = ALERTS[alert]
    assert faults(rule["expr"]) == []
    assert set(rule["annotations"]) == {"summary", "runbook", "compose"}
    assert rule["annotations"]["compose"] == in_compose(rule["annotations"]["runbook"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    named_commands = commands(rule["annotations"]["runbook"])
    assert named_commands
    assert named_commands <= COMMANDS.keys()
    inside = " ".join(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    _, groups = named(rule["expr"])
    assert set(inside.split()) <= groups | {"instance", "process"}, "a label that the expression takes away"


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_shows_what_exists(title: str) -> None:
    panel = PANELS[title]
    for expression in expressions(panel):
        assert faults(expression) == [], expression
        legend = {label for target in panel["targets"] for label in re.findall(r"{{(\w+)}}", target["legendFormat"])}
        assert legend <= set().union(*(named(e)[1] for e in expressions(panel))) | {"instance", "process"}
    assert panel["datasource"]["uid"] == provisioned()["uid"]
    assert commands(panel.get("description", "")) <= COMMANDS.keys()


def test_the_dashboard_is_laid_out() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} covers another panel"
        assert at["x"] + at["w"] <= 24
        taken |= cells
    [tenant] = DASHBOARD["templating"]["list"]
    assert faults(tenant["query"]["query"].removeprefix("label_values(").split(",")[0]) == []


def test_the_dashboard_has_the_guides_queries() -> None:
    """It uses the guide's names. In a division both sides are sums: otherwise each series is divided by itself."""
    shown = {name for panel in PANELS.values() for expression in expressions(panel) for name in named(expression)[0]}
    uncommented = re.sub(r"^#.*$", "", promql(), flags=re.MULTILINE)
    assert named(uncommented)[0].keys() <= shown
    for expression in [e for panel in PANELS.values() for e in expressions(panel)] + [
        r["expr"] for r in ALERTS.values()
    ]:
        if "vision_analysis_requests_total" in expression and " / " in expression.replace("\n", " "):
            assert len(re.findall(r"\bsum\b", expression)) >= 2, expression


def promql() -> str:
    """The guide's queries."""
    [block] = re.findall(r"```promql\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return str(block)


def provisioned() -> dict[str, Any]:
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    return dict(source)


def test_what_is_mounted_is_what_the_programs_are_told_to_read() -> None:
    services = COMPOSE["services"]
    assert services["prometheus"]["volumes"][0] == "./deploy/prometheus:/etc/prometheus:ro"
    assert services["grafana"]["volumes"][0] == "./deploy/grafana:/etc/grafana/vision:ro"
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/vision.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/vision/dashboards"
    assert provisioned()["url"] == "http://prometheus:9090"
    jobs = {job["job_name"]: job["static_configs"] for job in SCRAPE["scrape_configs"]}
    assert jobs.pop("vision") == [{"targets": ["worker:8001"]}]
    for name, [static] in jobs.items():
        [target] = static["targets"]
        exporter, _, port = target.partition(":")
        assert exporter == f"{name}-exporter"
        assert f"http://127.0.0.1:{port}/metrics" in services[exporter]["healthcheck"]["test"]
    assert SCRAPE["rule_files"] == [RULES.name]


@needs_promtool
def test_promtool_takes_rules_configuration_and_every_query_of_dashboard_and_guide(tmp_path: Path) -> None:
    promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    shown = [expression for panel in PANELS.values() for expression in expressions(panel)]
    shown += [query for query in re.split(r"\n\n", re.sub(r"^#.*$", "", promql(), flags=re.MULTILINE)) if query.strip()]
    plain = [expression.replace("$__rate_interval", "5m").replace("$tenant", ".*") for expression in shown]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(plain)]
    queries = tmp_path / "queries.yml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(queries))


def test_every_alert_is_tried() -> None:
    assert SICK.keys() == ALERTS.keys()


@needs_promtool
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    groups = [_group("15s", HEALTHY, [_never(at) for at in ("5m", "20m", "60m")])]
    for alert, (interval, series, quiet_at, fires_at) in SICK.items():
        groups.append(_group(interval, series, [_firing(alert, quiet_at, 0), _firing(alert, fires_at, 1)]))
    files = []
    for interval in sorted(
        {group["interval"] for group in groups}
    ):  # rules are evaluated as often as there are samples
        tests = [group for group in groups if group["interval"] == interval]
        files.append(tmp_path / f"alerts_{interval}.yml")
        whole = {"rule_files": [str(RULES)], "evaluation_interval": interval, "tests": tests}
        files[-1].write_text(yaml.safe_dump(whole))
    promtool("test", "rules", *map(str, files))


def _group(interval: str, series: dict[str, str], checks: list[dict[str, Any]]) -> dict[str, Any]:
    listed = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": interval, "input_series": listed, "promql_expr_test": checks}


def _firing(alert: str, at: str, count: int) -> dict[str, Any]:
    expression = f'count by (alertname) (ALERTS{{alertname="{alert}", alertstate="firing"}})'
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": count}] if count else []
    return {"expr": expression, "eval_time": at, "exp_samples": samples}


def _never(at: str) -> dict[str, Any]:
    return {"expr": 'ALERTS{alertstate="firing"}', "eval_time": at, "exp_samples": []}


def promtool(*arguments: str) -> None:
    ended = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
