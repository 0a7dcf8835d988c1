"""Grafana dashboards: what they show is a table here, how that is drawn is the business of Grafana's own builders.

Panels read the metrics of ``vdcos.core.metrics`` and the recording rules of manifests/monitoring/rules.yaml, and name
no job, namespace or pod, so that they work however the operator is scraped.
"""

import collections.abc
import itertools
import typing

from grafana_foundation_sdk.builders import common as style
from grafana_foundation_sdk.builders import dashboard, stat, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, prometheus
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
)

HEIGHT: typing.Final = 8
SMALL: typing.Final = 4
"""Height of a panel with one number."""


class Query(typing.NamedTuple):
    """A PromQL expression and the name of its series, in Grafana's template of their labels."""

    expr: str
    legend: str = ""


class Panel(typing.NamedTuple):
    """``unit`` is one of Grafana's names of units. ``bad_from``: a number is red from here on; below, if ``low``."""

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    shown: typing.Literal["graph", "areas", "number", "table"] = "graph"
    width: int = 8
    bad_from: float | None = None
    low: bool = False


class Board(typing.NamedTuple):
    """A dashboard: rows of panels by title."""

    uid: str
    title: str
    about: str
    rows: collections.abc.Mapping[str, tuple[Panel, ...]]


def _or_zero(expr: str) -> str:
    """0 where there are no such series, as long as a leader tells: without one, nothing is known."""
    return f"{expr} or max(vdcos_leader == 1) - 1"


def _number(title: str, about: str, expr: str, bad_from: float | None = None, **more: typing.Any) -> Panel:
    return Panel(title, about, (Query(expr),), shown="number", width=4, bad_from=bad_from, **more)


ALERTS: typing.Final = Panel(
    "Alerts",
    "What is pending or firing. Each has a runbook page.",
    (Query('sum by (alertname, severity, alertstate) (ALERTS{alertname=~"Vdcos.+"})'),),
    shown="table",
    width=24,
)

DATACENTER: typing.Final = Board(
    "vdcos-datacenter",
    "vdcos / datacenter",
    "Hosts, VMs, high availability, datastores and networks, as the replica of vdcos that leads sees them.",
    {
        "Now": (
            _number("Hosts", "All hosts.", "sum(vdcos_hosts)"),
            _number(
                "Hosts that are not well",
                "Hosts that are neither connected, nor in maintenance, nor left alone by every policy.",
                _or_zero('sum(vdcos_hosts{state!~"Connected|Maintenance|Unmanaged"})'),
                1,
            ),
            _number("VMs on", "VMs that are powered on.", _or_zero('sum(vdcos_vms{power_state="PoweredOn"})')),
            _number(
                "VMs as declared",
                "VMs that are Ready: one that is declared off, and is off, is.",
                "datacenter:vdcos_vms_ready:ratio",
                0.95,
                unit="percentunit",
                low=True,
            ),
            _number(
                "VMs without a refuge",
                "VMs that would stay down if their host died now.",
                _or_zero('sum(vdcos_ha_vms{outcome!="RestartsElsewhere"})'),
                1,
            ),
            _number(
                "Failures under way",
                "Failures of hosts that are not over.",
                _or_zero('sum(vdcos_host_failures{phase!="Completed"})'),
                1,
            ),
            ALERTS,
        ),
        "Virtual machines": (
            Panel(
                "By power state",
                "All VMs.",
                (Query("sum by (power_state) (vdcos_vms)", "{{power_state}}"),),
                shown="areas",
            ),
            Panel(
                "Not as declared, by reason",
                "The reason of condition Ready. The troubleshooting page of the guide explains each.",
                (
                    Query(
                        "sum by (reason) "
                        '(vdcos_object_conditions{kind="VirtualMachine", condition="Ready", status!="True"})',
                        "{{reason}}",
                    ),
                ),
                shown="areas",
            ),
            Panel(
                "Conditions",
                "All objects by what their conditions say.",
                (Query("sum by (kind, condition, status, reason) (vdcos_object_conditions)"),),
                shown="table",
            ),
        ),
        "Hosts": (
            Panel("By state", "All hosts.", (Query("sum by (state) (vdcos_hosts)", "{{state}}"),), shown="areas"),
            Panel(
                "Reserved CPU",
                "What pods request of what they can have.",
                (
                    Query("datacenter:vdcos_host_reserved_cpu:ratio", "all"),
                    Query("host:vdcos_host_reserved_cpu:ratio", "{{host}}"),
                ),
                unit="percentunit",
            ),
            Panel(
                "Reserved memory",
                "What pods request of what they can have.",
                (
                    Query("datacenter:vdcos_host_reserved_memory:ratio", "all"),
                    Query("host:vdcos_host_reserved_memory:ratio", "{{host}}"),
                ),
                unit="percentunit",
            ),
            Panel("VMs by host", "", (Query("max by (host) (vdcos_host_vms)", "{{host}}"),)),
            Panel(
                "States",
                "Each host, with its state and the HAPolicy that covers it.",
                (Query("max by (host, state, policy) (vdcos_host_info)"),),
                shown="table",
                width=16,
            ),
        ),
        "High availability": (
            Panel(
                "If its host died now",
                "Running VMs of covered hosts, by what would become of them.",
                (Query("sum by (outcome) (vdcos_ha_vms)", "{{outcome}}"),),
                shown="areas",
            ),
            Panel(
                "VMs that would stay down, by host",
                "",
                (Query('max by (host) (vdcos_ha_failure_plan_vms{outcome="stays"})', "{{host}}"),),
            ),
            Panel(
                "VMs that wait for failover capacity",
                "",
                (Query("max by (policy) (vdcos_ha_waiting_vms)", "{{policy}}"),),
            ),
            Panel(
                "Failover capacity: CPU",
                "What policies keep free, what VMs may use beside that, what is missing.",
                tuple(
                    Query(f"max by (policy) (vdcos_ha_failover_{what}_cpu_cores)", f"{{{{policy}}}}: {what}")
                    for what in ("promised", "available", "missing")
                ),
            ),
            Panel(
                "Failover capacity: memory",
                "What policies keep free, what VMs may use beside that, what is missing.",
                tuple(
                    Query(f"max by (policy) (vdcos_ha_failover_{what}_memory_bytes)", f"{{{{policy}}}}: {what}")
                    for what in ("promised", "available", "missing")
                ),
                unit="bytes",
            ),
            Panel(
                "Failures of hosts",
                "By phase; those that are over are not shown.",
                (Query(_or_zero('sum by (phase) (vdcos_host_failures{phase!="Completed"})'), "{{phase}}"),),
                shown="areas",
            ),
            Panel(
                "How long stages of failures took",
                "On average, of those in the time that is shown.",
                (
                    Query(
                        "sum by (stage) (increase(vdcos_failover_stage_seconds_sum[$__range]))\n"
                        "/\n"
                        "sum by (stage) (increase(vdcos_failover_stage_seconds_count[$__range]))",
                        "{{stage}}",
                    ),
                ),
                unit="s",
                shown="number",
            ),
            Panel(
                "Proofs that hosts were down",
                "By the power switch or witness that proved it, since the replicas have started.",
                (Query("sum by (provider, how) (vdcos_fence_receipts_total)", "{{provider}}: {{how}}"),),
                shown="number",
            ),
            Panel(
                "Guests that were reset",
                "Because their agent had fallen silent.",
                (Query("sum(increase(vdcos_guest_resets_total[$__rate_interval]))", "resets"),),
            ),
        ),
        "Datastores and networks": (
            Panel(
                "How full datastores are",
                "Sizes of disks, of the declared ceiling.",
                (Query("datastore:vdcos_datastore_provisioned:ratio", "{{datastore}}"),),
                unit="percentunit",
            ),
            Panel(
                "Provisioned",
                "Sum of the sizes of disks.",
                (Query("max by (datastore) (vdcos_datastore_provisioned_bytes)", "{{datastore}}"),),
                unit="bytes",
            ),
            Panel(
                "Disks",
                "All, and those that no VM declares any more.",
                (
                    Query("max by (datastore) (vdcos_datastore_disks)", "{{datastore}}"),
                    Query("max by (datastore) (vdcos_datastore_retained_disks)", "{{datastore}}: retained"),
                ),
            ),
            Panel("VMs by network", "", (Query("max by (network) (vdcos_network_vms)", "{{network}}"),), width=12),
            Panel(
                "Namespaces by network",
                "Where a network is attached.",
                (Query("max by (network) (vdcos_network_namespaces)", "{{network}}"),),
                width=12,
            ),
        ),
    },
)

_OURS = "and on (job, instance) vdcos_build_info"
"""Of the metrics that every process has, those of the operator."""

OPERATOR: typing.Final = Board(
    "vdcos-operator",
    "vdcos / operator",
    "Whether the operator keeps up, what it writes, and how it gets on with the API server and with what is outside.",
    {
        "Now": (
            _number("Leaders", "Replicas that may write: always one.", "sum(vdcos_leader)", 1, low=True),
            _number("Replicas", "All that are scraped.", "count(vdcos_leader)"),
            _number("Waiting", "Objects that are due and were not looked at yet.", "max(vdcos_queue_depth)"),
            _number(
                "Waiting since",
                "How long the first of them has waited.",
                "max(vdcos_queue_oldest_age_seconds)",
                60,
                unit="s",
            ),
            _number(
                "Oldest watch",
                "Since the API server last said anything about a kind.",
                "max(vdcos_watch_age_seconds)",
                180,
                unit="s",
            ),
            _number("Writes", "Per second. At rest there are none.", "sum(vservice:vdcos_writes:rate5m)", unit="wps"),
            ALERTS,
        ),
        "Work": (
            Panel(
                "Looks by result",
                "Per second.",
                (Query("sum by (result) (vservice_result:vdcos_reconciles:rate5m)", "{{result}}"),),
                unit="ops",
                shown="areas",
            ),
            Panel(
                "Looks by vService",
                "Per second.",
                (Query("sum by (vservice) (vservice_result:vdcos_reconciles:rate5m)", "{{vservice}}"),),
                unit="ops",
                shown="areas",
            ),
            Panel(
                "Longest looks",
                "99 of 100 take less.",
                (Query("vservice:vdcos_reconcile_seconds:p99_rate5m", "{{vservice}}"),),
                unit="s",
            ),
            Panel("Waiting", "Objects that are due; at rest none.", (Query("max(vdcos_queue_depth)", "objects"),)),
            Panel(
                "Under way",
                "Looks at a time, at most 32 by a replica.",
                (Query("sum by (pod) (vdcos_reconciles_in_flight)", "{{pod}}"),),
            ),
            Panel(
                "Writes",
                "Per second.",
                (Query("sum by (kind, verb) (rate(vdcos_writes_total[$__rate_interval]))", "{{kind}} {{verb}}"),),
                unit="wps",
            ),
            Panel(
                "Repairs",
                "Fields that somebody changed and that were set again, per second.",
                (
                    Query(
                        _or_zero("sum by (vservice, kind) (rate(vdcos_drift_repairs_total[$__rate_interval]))"),
                        "{{vservice}} {{kind}}",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                "Events",
                "Kubernetes Events, per second.",
                (Query("sum by (result) (rate(vdcos_events_total[$__rate_interval]))", "{{result}}"),),
                unit="ops",
            ),
            Panel(
                "Missing",
                "What vdcos builds on and does not find, or not as it should be; vdcos check says what that costs.",
                (Query("min by (check, required) (vdcos_check_ok) == 0"),),
                shown="table",
            ),
            Panel(
                "Leadership", "1 for the replica that may write.", (Query("max by (pod) (vdcos_leader)", "{{pod}}"),)
            ),
        ),
        "API server": (
            Panel(
                "Errors",
                "Requests that failed, per second; code 0 is no answer.",
                (Query("code:vdcos_api_errors:rate5m", "{{code}}"),),
                unit="reqps",
            ),
            Panel(
                "Lists",
                "Of a whole kind, per second; any reason but start is a watch that broke.",
                (Query("sum by (reason) (rate(vdcos_lists_total[$__rate_interval]))", "{{reason}}"),),
                unit="reqps",
            ),
            Panel(
                "Watches",
                "Since the API server last said anything about a kind: about a minute at most.",
                (Query("max by (kind) (vdcos_watch_age_seconds)", "{{kind}}"),),
                unit="s",
            ),
            Panel(
                "Objects in memory",
                "By kind, of the replica that holds most.",
                (Query("max by (kind) (vdcos_stored_objects)", "{{kind}}"),),
            ),
            Panel(
                "Objects that did not fit",
                "In the last 15 minutes.",
                (Query("sum by (kind) (increase(vdcos_undecodable_objects_total[15m]))", "{{kind}}"),),
            ),
        ),
        "Outside the cluster": (
            Panel(
                "Asks",
                "Probes, power switches and third parties' witnesses, per second.",
                (
                    Query(
                        _or_zero("sum by (provider, result) (rate(vdcos_asks_total[$__rate_interval]))"),
                        "{{provider}} {{result}}",
                    ),
                ),
                unit="ops",
                width=12,
            ),
            Panel(
                "How long they take",
                "95 of 100 take less.",
                (
                    Query(
                        "histogram_quantile(0.95, "
                        "sum by (provider, le) (rate(vdcos_ask_seconds_bucket[$__rate_interval])))",
                        "{{provider}}",
                    ),
                ),
                unit="s",
                width=12,
            ),
        ),
        "Process": (
            Panel(
                "CPU",
                "Cores that are busy.",
                (Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {_OURS}", "{{pod}}"),),
            ),
            Panel("Memory", "Resident.", (Query(f"process_resident_memory_bytes {_OURS}", "{{pod}}"),), unit="bytes"),
            Panel("Versions", "What runs.", (Query("count by (version, pod) (vdcos_build_info)"),), shown="table"),
        ),
    },
)

BOARDS: typing.Final = (DATACENTER, OPERATOR)


def rendered(board: Board) -> str:
    """The JSON that Grafana takes."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["vdcos"])
        .refresh("1m")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    ids = itertools.count(1)
    for title, panels in board.rows.items():
        made = made.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            made = made.with_panel(_drawn(panel, next(ids)))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


_SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
_PLAIN, _RED = "green", "red"


def _drawn(panel: Panel, number: int) -> stat.Panel | table.Panel | timeseries.Panel:
    match panel.shown:
        case "number":
            drawn: typing.Any = (
                stat.Panel()
                .unit(panel.unit)
                .height(SMALL)
                .thresholds(_thresholds(panel))
                .graph_mode(common.BigValueGraphMode.AREA)
                .reduce_options(style.ReduceDataOptions().calcs(["lastNotNull"]))
            )
        case "table":
            hidden = DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}})
            drawn = table.Panel().height(HEIGHT).with_transformation(hidden)
        case "graph" | "areas":
            drawn = (
                timeseries.Panel()
                .unit(panel.unit)
                .height(HEIGHT)
                .min(0)
                .legend(style.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST))
                .tooltip(style.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
            )
            if panel.shown == "areas":
                stacked = style.StackingConfig().mode(common.StackingMode.NORMAL)
                drawn = drawn.fill_opacity(30).stacking(stacked)
    drawn = drawn.id(number).title(panel.title).span(panel.width).datasource(_SOURCE)
    if panel.about:
        drawn = drawn.description(panel.about)
    for query, name in zip(panel.queries, "ABCDEF", strict=False):
        target = Dataquery().datasource(_SOURCE).expr(query.expr).ref_id(name)
        if panel.shown == "table":
            target = target.instant().format(prometheus.PromQueryFormat.TABLE)
        else:
            target = target.range().legend_format(query.legend or "__auto")
        drawn = drawn.with_target(target)
    return typing.cast("stat.Panel | table.Panel | timeseries.Panel", drawn)


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    below, above = (_RED, _PLAIN) if panel.low else (_PLAIN, _RED)
    steps = [Threshold(value=None, color=_PLAIN if panel.bad_from is None else below)]
    if panel.bad_from is not None:
        steps.append(Threshold(value=panel.bad_from, color=above))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
