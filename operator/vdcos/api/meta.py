"""Words that several kinds share: names, quantities, conditions, selectors."""

from typing import Annotated, Literal

from pydantic import Field

from vdcos.api.schema import ATOMIC, SET, ListMap, Model, Must, Rule

_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"

DnsLabel = Annotated[
    str,
    Field(max_length=63, pattern=f"^{_LABEL}$"),
    Must("must be at most 63 lower-case letters, digits or '-', and begin and end with a letter or digit"),
]
"""A name as RFC 1123 wants it for one label: objects that we create carry it in labels and host names."""

ObjectName = Annotated[
    str,
    Field(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$"),
    Must("must be the name of a Kubernetes object: lower-case letters, digits, '-' and '.'"),
]
"""The name of any Kubernetes object (RFC 1123 subdomain)."""

ResourceName = Annotated[
    str,
    Field(max_length=317, pattern=r"^([a-z0-9][-a-z0-9]*\.)+[a-z0-9]+/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"),
    Must("must be the resource name of a device plugin, such as nvidia.com/TU104GL_Tesla_T4"),
]
"""An extended resource of a node, `domain/name`."""

InterfaceName = Annotated[
    str,
    Field(max_length=15, pattern="^[A-Za-z0-9][-A-Za-z0-9_.]{0,14}$"),
    Must("must be the name of a network interface: at most 15 letters, digits, '-', '_' or '.'"),
]
"""A network interface or bridge on a host; Linux allows 15 characters."""

VlanId = Annotated[int, Field(ge=1, le=4094)]
"""An IEEE 802.1Q VLAN; 0 and 4095 are reserved."""

_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"


def size(smallest: str, largest: str) -> Must:
    """A range of bytes, as Kubernetes quantities."""
    return Must(
        f"must be a size from {smallest} to {largest}, such as 512Mi or 20Gi",
        f"quantity(self).compareTo(quantity('{smallest}')) >= 0"
        f" && quantity(self).compareTo(quantity('{largest}')) <= 0",
    )


MemorySize = Annotated[str, Field(max_length=20, pattern=_QUANTITY), size("1Mi", "16Ti")]
"""KubeVirt's smallest is 1M; 16 TiB is what x86 guests can address in practice."""

DiskSize = Annotated[str, Field(max_length=20, pattern=_QUANTITY), size("1Mi", "64Ti")]

StoreSize = Annotated[str, Field(max_length=20, pattern=_QUANTITY), size("1Mi", "1024Pi")]

CpuAmount = Annotated[
    str,
    Field(max_length=10, pattern="^([0-9]{1,3}|[0-9]{1,6}m)$"),
    Must(
        "must be a number of CPUs from 1m to 512, such as 2 or 500m",
        "quantity(self).compareTo(quantity('1m')) >= 0 && quantity(self).compareTo(quantity('512')) <= 0",
    ),
]

Parameters = Annotated[
    dict[str, Annotated[str, Field(max_length=1024)]],
    Field(max_length=32),
    Rule(
        "self.all(k, k.matches(r'^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$'))",
        "a parameter's name has 1 to 63 letters, digits or '-', '_', '.', none of these at its beginning",
    ),
]
"""What a third party's provider wants to know."""

Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$"), Must("must be one line of text")]
"""Free text that stands in messages and tables."""

Moment = Annotated[
    str,
    Field(max_length=20, pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    Must("must be a time in UTC such as 2026-01-01T12:00:00Z"),
]
"""A time in a spec, where format date-time would let lists pass for text."""

Timestamp = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC, as Kubernetes writes it."""

_LABEL_NAME = rf"^({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$"
_LABEL_VALUE = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

LabelName = Annotated[
    str,
    Field(max_length=317, pattern=_LABEL_NAME),
    Must("must be the name of a label, such as topology.kubernetes.io/zone"),
]

LabelValue = Annotated[
    str,
    Field(max_length=63, pattern=_LABEL_VALUE),
    Must("must be a label value: letters, digits and, between them, '-', '_', '.'"),
]

LabelMap = Annotated[
    dict[str, Annotated[str, Field(max_length=63)]],
    Field(max_length=16),
    Rule(
        f"self.all(k, k.size() <= 317 && k.matches(r'{_LABEL_NAME}') && self[k].matches(r'{_LABEL_VALUE}'))",
        "keys must be label names such as topology.kubernetes.io/zone,"
        " values label values: letters, digits and, between them, '-', '_', '.'",
    ),
]
"""Labels to match."""


class SelectorRequirement(Model):
    """One condition on a label."""

    key: LabelName
    """The label's name."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label relates to the values."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=16), SET] = ()
    """For In and NotIn: the values; empty for Exists and DoesNotExist."""

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "operator In and NotIn need values; Exists and DoesNotExist take none",
            ".values",
        ),
    )


class LabelSelector(Model):
    """Selects objects by labels; all conditions must hold."""

    match_labels: LabelMap = Field(default_factory=dict)
    """Labels that must have exactly these values."""
    match_expressions: Annotated[tuple[SelectorRequirement, ...], Field(max_length=8), ATOMIC] = ()
    """Further conditions."""

    rules = (
        Rule(
            "(has(self.matchLabels) && self.matchLabels.size() > 0)"
            " || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
            "an empty selector would select everything: give labels",
        ),
    )


class AllowedNamespaces(Model):
    """Which namespaces' VMs may use a cluster-wide resource."""

    from_: Literal["None", "All", "Selector", "Names"] = Field(default="None", alias="from")
    """None (nobody, the default), All, Selector (namespaces whose labels match) or Names (the namespaces listed)."""
    selector: LabelSelector | None = None
    """With `from: Selector`: the labels of the namespaces."""
    names: Annotated[tuple[DnsLabel, ...], Field(max_length=256), SET] | None = None
    """With `from: Names`: the namespaces."""

    rules = (
        Rule("has(self.selector) == (self.from == 'Selector')", "from: Selector, and only that, takes a selector"),
        Rule("has(self.names) == (self.from == 'Names')", "from: Names, and only that, takes names"),
    )


class ObjectMeta(Model):
    """The part of an object's metadata that decisions need."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()


class Condition(Model):
    """One aspect of an object's state, as in `metav1.Condition`."""

    type: Annotated[str, Field(min_length=1, max_length=64)]
    """What this is about, for example Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=128)]
    """Why, in one CamelCase word for programs."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Why and what to do about it, for people."""
    last_transition_time: Timestamp
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)]
    """The generation of the spec that this was computed from."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32), ListMap("type")]


class Usage(Model):
    """How many, and the first ten by name."""

    count: Annotated[int, Field(ge=0)] = 0
    """How many there are."""
    names: Annotated[tuple[Annotated[str, Field(max_length=317)], ...], Field(max_length=10), ATOMIC] = ()
    """The first ten, sorted; objects of namespaces as namespace/name."""


class Amounts(Model):
    """CPU and memory."""

    cpu: Annotated[str, Field(max_length=32)] = "0"
    """CPUs, as a quantity such as 64 or 1500m."""
    memory: Annotated[str, Field(max_length=32)] = "0"
    """Memory, as a quantity such as 512Gi."""


class Status(Model):
    """What every kind's status has. Its default marks an object that no operator has seen (kstatus: InProgress)."""

    observed_generation: Annotated[int, Field(ge=-1)] = -1
    """The generation of the spec that was last seen; -1 until then. It says nothing about completion: conditions do."""
    conditions: Conditions = ()
    """State by aspect; Ready sums it up. Reconciling and Stalled are present only while true."""
