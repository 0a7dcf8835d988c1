"""Every metric of the operator: its name, type, labels and meaning. The runtime makes them of this list, the reference
page is made of it, and rules and dashboards are checked against it.

Names follow Prometheus' conventions: base units, ``_total`` for counters, one unit for a metric. No label is something
that a tenant can make many of; hosts, datastores, networks and policies are an administrator's. No label is named as
those that Prometheus gives a target (``service``, ``namespace``, ``pod``), or it would be renamed on its way.
"""

from typing import Literal, NamedTuple

Type = Literal["counter", "gauge", "histogram", "info"]


class Metric(NamedTuple):
    """A metric family. ``by_leader``: only the replica that leads tells it, as soon as it has seen everything once."""

    name: str
    type: Type
    about: str
    labels: tuple[str, ...] = ()
    by_leader: bool = False


# The datacenter

VMS = Metric(
    "vdcos_vms", "gauge", "VirtualMachines by power state; `Unknown` when nothing is said yet.", ("power_state",), True
)
CONDITIONS = Metric(
    "vdcos_object_conditions",
    "gauge",
    "Objects of a kind of ours by what a condition of theirs says. Those that have no such condition are not counted; "
    "where there are very many reasons, the rare ones are counted as `Other`.",
    ("kind", "condition", "status", "reason"),
    True,
)
HOSTS = Metric("vdcos_hosts", "gauge", "Hosts by state; `Unknown` when nothing is said yet.", ("state",), True)
HOST = Metric(
    "vdcos_host_info",
    "info",
    "1 for each Host: its state, and the HAPolicy that covers it.",
    ("host", "state", "policy"),
    True,
)
HOST_VMS = Metric("vdcos_host_vms", "gauge", "VMs on a host.", ("host",), True)
HOST_CPU = Metric("vdcos_host_allocatable_cpu_cores", "gauge", "CPUs that pods can have of a host.", ("host",), True)
HOST_CPU_RESERVED = Metric(
    "vdcos_host_reserved_cpu_cores", "gauge", "CPUs that the pods of a host request, VMs or not.", ("host",), True
)
HOST_MEMORY = Metric(
    "vdcos_host_allocatable_memory_bytes", "gauge", "Memory that pods can have of a host.", ("host",), True
)
HOST_MEMORY_RESERVED = Metric(
    "vdcos_host_reserved_memory_bytes", "gauge", "Memory that the pods of a host request, VMs or not.", ("host",), True
)
DATASTORE_CAPACITY = Metric(
    "vdcos_datastore_capacity_bytes",
    "gauge",
    "Ceiling of a Datastore, as declared; there only where one is.",
    ("datastore",),
    True,
)
DATASTORE_PROVISIONED = Metric(
    "vdcos_datastore_provisioned_bytes", "gauge", "Sum of the sizes of a Datastore's disks.", ("datastore",), True
)
DATASTORE_DISKS = Metric("vdcos_datastore_disks", "gauge", "Disks on a Datastore.", ("datastore",), True)
DATASTORE_RETAINED = Metric(
    "vdcos_datastore_retained_disks",
    "gauge",
    "Disks on a Datastore that no VM declares any more.",
    ("datastore",),
    True,
)
NETWORK_VMS = Metric("vdcos_network_vms", "gauge", "VMs that use a Network.", ("network",), True)
NETWORK_NAMESPACES = Metric(
    "vdcos_network_namespaces", "gauge", "Namespaces in which a Network is attached.", ("network",), True
)

# High availability

HOST_FAILURES = Metric(
    "vdcos_host_failures", "gauge", "HostFailures by phase, those that are over (`Completed`) too.", ("phase",), True
)
HA_VMS = Metric(
    "vdcos_ha_vms",
    "gauge",
    "Running VMs of the hosts that a policy covers, by what would become of them if their host died now: "
    "`RestartsElsewhere`, or why not.",
    ("policy", "outcome"),
    True,
)
HA_PLANS = Metric(
    "vdcos_ha_failure_plan_vms",
    "gauge",
    "VMs of a host that would restart (`restarts`), or stay down (`stays`), if it died now.",
    ("host", "outcome"),
    True,
)
HA_WAITING = Metric("vdcos_ha_waiting_vms", "gauge", "VMs that wait for failover capacity.", ("policy",), True)
HA_PROMISED_CPU = Metric(
    "vdcos_ha_failover_promised_cpu_cores", "gauge", "CPUs that a policy keeps free for restarts.", ("policy",), True
)
HA_AVAILABLE_CPU = Metric(
    "vdcos_ha_failover_available_cpu_cores", "gauge", "CPUs that VMs may still use beside that.", ("policy",), True
)
HA_MISSING_CPU = Metric(
    "vdcos_ha_failover_missing_cpu_cores", "gauge", "CPUs that are promised and not free.", ("policy",), True
)
HA_PROMISED_MEMORY = Metric(
    "vdcos_ha_failover_promised_memory_bytes",
    "gauge",
    "Memory that a policy keeps free for restarts.",
    ("policy",),
    True,
)
HA_AVAILABLE_MEMORY = Metric(
    "vdcos_ha_failover_available_memory_bytes", "gauge", "Memory that VMs may still use beside that.", ("policy",), True
)
HA_MISSING_MEMORY = Metric(
    "vdcos_ha_failover_missing_memory_bytes", "gauge", "Memory that is promised and not free.", ("policy",), True
)
STAGES = Metric(
    "vdcos_failover_stage_seconds",
    "histogram",
    "How long failures take: `detect` (from the last sign of life to the failure), `fence` (to its proof), `release` "
    "(until nothing keeps VMs from restarting), `restart` (until all are up or given up). Counted by the replica that "
    "acts, of stages that it has seen begin.",
    ("stage",),
)
RECEIPTS = Metric("vdcos_fence_receipts_total", "counter", "Proofs that a host is down.", ("provider", "how"))
RESETS = Metric("vdcos_guest_resets_total", "counter", "VMs that were reset because their guest agent was silent.")

# The operator

BUILD = Metric("vdcos_build_info", "info", "1, with the version that runs.", ("version",))
CHECK = Metric(
    "vdcos_check_ok",
    "gauge",
    "1 when what vdcos builds on is there, 0 when something is off or limited for want of it; none while that is not "
    "known.",
    ("check", "required"),
)
LEADER = Metric("vdcos_leader", "gauge", "1 for the replica that may write.")
RECONCILES = Metric(
    "vdcos_reconciles_total",
    "counter",
    "Looks at an object, by how they ended: `done`, `gone`, `conflict`, `backoff`, `refused` (by the API server, waits "
    "for a change), `bug`.",
    ("vservice", "result"),
)
RECONCILE_SECONDS = Metric(
    "vdcos_reconcile_seconds", "histogram", "Duration of one look, requests included.", ("vservice",)
)
IN_FLIGHT = Metric("vdcos_reconciles_in_flight", "gauge", "Looks that are under way, at most 32.")
QUEUE_DEPTH = Metric("vdcos_queue_depth", "gauge", "Objects that are due and were not looked at yet.", (), True)
QUEUE_AGE = Metric("vdcos_queue_oldest_age_seconds", "gauge", "How long the first of them has waited.", (), True)
WRITES = Metric(
    "vdcos_writes_total",
    "counter",
    "Writes that the API server carried out. At rest it stands still.",
    ("vservice", "kind", "verb"),
)
REPAIRS = Metric(
    "vdcos_drift_repairs_total",
    "counter",
    "Fields that somebody changed and that were set again.",
    ("vservice", "kind"),
)
API_ERRORS = Metric("vdcos_api_errors_total", "counter", "Requests that failed; code 0: no answer.", ("verb", "code"))
LISTS = Metric(
    "vdcos_lists_total",
    "counter",
    "Complete lists of a kind; any reason but `start` is a watch that broke.",
    ("kind", "reason"),
)
WATCH_AGE = Metric(
    "vdcos_watch_age_seconds",
    "gauge",
    "Seconds since the API server last said anything about a kind; about 60 at most when all is well.",
    ("kind",),
)
STORED = Metric("vdcos_stored_objects", "gauge", "Objects of a kind that the replica holds in memory.", ("kind",))
UNDECODABLE = Metric(
    "vdcos_undecodable_objects_total",
    "counter",
    "Objects that did not fit what is known of their kind and were left out.",
    ("kind",),
)
EVENTS = Metric("vdcos_events_total", "counter", "Kubernetes Events: `posted`, `failed`, `dropped`.", ("result",))
ASKS = Metric(
    "vdcos_asks_total",
    "counter",
    "Asks outside the cluster: `ok`, `failed`, `late`, `spared` (its target failed too often), `idle` (not leading).",
    ("provider", "effect", "result"),
)
ASK_SECONDS = Metric(
    "vdcos_ask_seconds", "histogram", "How long they took, the wait for their turn included.", ("provider", "effect")
)

ALL = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))
"""In the order of this file."""
