"""What the API server's answer to a case is worth: a good refusal, legal for a known reason, or something to mend."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from vdcos.testing.badinput.cases import Case, Group

Tree = Mapping[str, Any]

REFUSED_WITH = (400, 422)
TOO_LARGE = 413
LONGEST_MESSAGE = 4_000
"""Characters of a refusal; nobody reads more, and no refusal needs to repeat a huge value."""


@dataclasses.dataclass(frozen=True)
class Cause:
    """One complaint of the API server: where, and what."""

    field: str
    message: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    outcome: Literal["refused", "legal"]
    why: str
    """Of a refusal its first reason; of a legal case why it is legal, empty when nobody knows."""
    complaints: tuple[str, ...] = ()
    """What is wrong with the answer."""


@dataclasses.dataclass(frozen=True)
class Legal:
    """A class of odd input that is accepted, and why."""

    groups: frozenset[Group]
    why: str
    fields: tuple[str, ...] = ()
    """The ends of the fields' paths in the schema; empty for all."""
    what: str = ".*"
    """An expression for what was done."""
    letters: str = ""
    """The text has these letters only, as in "a-z": written down here, so that no rule of a field judges itself."""
    holds: Callable[[Case], bool] = lambda case: True

    def covers(self, case: Case) -> bool:
        return (
            case.group in self.groups
            and (not self.fields or case.field.endswith(self.fields))
            and re.fullmatch(self.what, case.what) is not None
            and (not self.letters or re.fullmatch(f"[{self.letters}]+", str(case.value)) is not None)
            and self.holds(case)
        )


EXCLUSIVE: tuple[tuple[str, frozenset[str]], ...] = (
    ("spec", frozenset({"instancetype", "cpu"})),
    ("spec", frozenset({"instancetype", "memory"})),
    ("spec", frozenset({"instancetype", "reservations"})),
    ("spec", frozenset({"pod", "bridge", "ovs", "ovn", "sriov", "plugin"})),
    ("spec", frozenset({"pod", "uplink"})),
    ("spec", frozenset({"pod", "mtu"})),
    ("spec", frozenset({"sriov", "uplink"})),
    ("spec", frozenset({"plugin", "uplink"})),
    ("spec.disks[].source", frozenset({"blank", "image", "http", "pvc", "snapshot"})),
    ("spec.guest", frozenset({"cloudInit", "sysprep"})),
    ("spec.guest", frozenset({"sysprep", "sshAuthorizedKeys"})),
    ("spec.guest", frozenset({"sysprep", "sshKeySecretNames"})),
    ("spec.guest.cloudInit", frozenset({"userData", "userDataSecretName"})),
    ("spec.guest.cloudInit", frozenset({"networkData", "networkDataSecretName"})),
    ("spec.guest.sysprep", frozenset({"secretName", "configMapName"})),
    ("spec.placement.affinity[]", frozenset({"names", "matchLabels"})),
    ("spec.allowedNamespaces", frozenset({"names", "selector"})),
    ("spec.availability.dependsOn[]", frozenset({"name", "selector"})),
    ("spec.admissionControl", frozenset({"hostFailures", "percentage", "dedicatedHosts"})),
    ("spec.fencing.providers[]", frozenset({"afterSeconds", "template"})),
)
"""Fields of one object of which at most one may be set, written down apart from the rules that say so."""

FIXED = (
    *("spec.disks[].datastore", "spec.disks[].source", "spec.disks[].claimName", "spec.storageClassName"),
    *("spec.host", "spec.incarnation", "spec.policy", "spec.machine", "spec.providerID", "spec.evidence"),
)
"""Fields whose value never changes, nor what is below them."""


def _combines(case: Case) -> bool:
    """No two members of an exclusive set."""
    parent, _, added = case.field.rpartition(".")
    present = {added, *case.what.removeprefix("beside ").split(", ")}
    return not any(at == parent and added in group and len(group & present) > 1 for at, group in EXCLUSIVE)


def _may_change(case: Case) -> bool:
    return not any(case.field == field or case.field.startswith((f"{field}.", f"{field}[")) for field in FIXED)


def _is_a_line(case: Case) -> bool:
    return isinstance(case.value, str) and all(" " <= letter != "\x7f" for letter in case.value)


def _groups(*groups: Group) -> frozenset[Group]:
    return frozenset(groups)


_SYNTAX = _groups("syntax")
_FREE = ("cloudInit.userData", "cloudInit.networkData", "overrides[].value", "parameters{}")
_LABEL_VALUES = ("nodeSelector{}", "matchLabels{}", "tolerations[].value", "values[]")

LEGAL: tuple[Legal, ...] = (
    Legal(_groups("missing"), "optional: without it, or with null, its default applies", what=r".*\(optional\)|empty"),
    Legal(
        _groups("boundary"),
        "a bound belongs to what is allowed",
        what="(the|one (above|below) the) (min|max)imum.*|the bound .*|just within .*",
    ),
    Legal(
        _groups("boundary"),
        "as much as a bound allows, and no less",
        what="as (long|many) as allowed|empty|a key of 63 characters",
    ),
    Legal(_groups("other word"), "another of the documented words, another order, or fewer"),
    Legal(_groups("union"), "fields that go together", holds=_combines),
    Legal(_groups("transition"), "may change at any time", holds=_may_change),
    Legal(
        _groups("transition"),
        "nothing changes: the order of witnesses means nothing, and a time is in upper case already",
        ("spec.evidence", "evidence[].since"),
        what="in another order|in upper case",
    ),
    Legal(
        _groups("transition"),
        "nothing changes: what is added is the default",
        ("spec.disks[].source",),
        what="added",
        holds=lambda case: case.value == {"blank": {}},
    ),
    Legal(
        _SYNTAX, "a time is in upper case already, and may be left out", ("spec.renewed",), what="upper case|no text"
    ),
    Legal(
        _groups("syntax", "unicode", "boundary", "wrong type", "other word", "huge"),
        "free text or any JSON, for the guest, KubeVirt or a provider",
        _FREE,
    ),
    Legal(
        _SYNTAX,
        "a proper name; that there is such a thing is a condition",
        (
            *("disks[].name", "disks[].datastore", "nics[].name", "nics[].network", "devices[].name", "guest.hostname"),
            *("affinity[].name", "affinity[].names[]", "allowedNamespaces.names[]", "dependsOn[].name", "rules[].name"),
            *("witnesses[].provider", "providers[].provider", "template.namespace"),
        ),
        letters="a-z0-9-",
    ),
    Legal(
        _SYNTAX,
        "a proper name of an object; that there is one is a condition",
        (
            *("metadata.name", "ecretName", "ecretNames[]", "onfigMapName", "pvc.name", "snapshot.name"),
            *("instancetype.name", "preference.name", "plugin.provider", "storageClassName"),
            *("credentials", "template.name", "spec.host", "spec.policy", "disks[].claimName"),
        ),
        letters="a-z0-9.-",
    ),
    Legal(
        _SYNTAX,
        "a proper label; no node or VM need have it",
        ("nodeSelector", "matchLabels", ".key", "topologyKey", *_LABEL_VALUES),
        letters="A-Za-z0-9._/-",
    ),
    Legal(
        _groups("syntax", "unicode", "boundary"),
        "one line of text, for people",
        (
            *("confirmedDown.by", "confirmedDown.why", "paused.reason", "evidence[].witness", "evidence[].says"),
            *("spec.machine", "spec.providerID", "spec.incarnation"),
        ),
        holds=_is_a_line,
    ),
    Legal(_SYNTAX, "the name of another parameter or label", what="a taken word as a key"),
    Legal(_SYNTAX, "there may be a host of that name or address", ("ipmi.address",), letters="A-Za-z0-9.:-"),
    Legal(_SYNTAX, "an empty value is a label's value, too", _LABEL_VALUES, what="no text"),
    Legal(
        _SYNTAX,
        "interfaces and bridges of hosts may have such names",
        ("bridge.name", "ovs.name", "interfaces[]", "uplink.bridge"),
        letters="A-Za-z0-9._-",
    ),
    Legal(
        _SYNTAX,
        "there may be a CPU model, serial number or physical network of that name",
        ("cpu.model", "firmware.serial", "physicalNetwork"),
        letters="A-Za-z0-9._+-",
    ),
    Legal(
        _SYNTAX,
        "another amount within the bounds",
        (".size", ".capacity", "reservations.memory", "reservations.cpu"),
        letters="0-9.KMGTPikm",
    ),
    Legal(_SYNTAX, "another image or address; the import says when it fails", ("reference", ".url"), letters="!-~"),
    Legal(
        _SYNTAX,
        "another key, checksum, resource, path or address of the same form",
        (
            *("sshAuthorizedKeys[]", "http.checksum", "resourceName", "overrides[].path"),
            *("macAddress", "firmware.uuid", "subnets[]", "redfish.address", "redfish.system", "fenceAgent.agent"),
            "evidence[].since",
        ),
        letters=" -~",
    ),
)
"""Reviewed by hand: everything that is accepted belongs to one of these classes, and each class is met."""


def judge(case: Case, code: int, answer: Tree) -> Verdict:
    """The verdict on an answer, the object as it would be stored or a Status. `code` is its HTTP status."""
    if code in (200, 201):
        why = next((legal.why for legal in LEGAL if legal.covers(case)), "")
        return Verdict("legal", why, () if why else ("accepted, and no class of legal input says why",))
    message = str(answer.get("message", ""))
    if code == TOO_LARGE and case.group == "huge":
        return Verdict("refused", "too large for any API server")
    found = causes(answer)
    complaints = list(_complaints(case, code, message, found))
    first = next((cause for cause in found if cause.field), Cause("", message))
    return Verdict("refused", first.message, tuple(complaints))


def causes(answer: Tree) -> list[Cause]:
    """Why the API server refused: its causes, or the unknown fields of a strict decoding error."""
    unknown = re.findall(r'unknown field "((?:[^"\\]|\\.)*)"', str(answer.get("message", "")))
    listed = (answer.get("details") or {}).get("causes") or ()
    return [Cause(field, "unknown field") for field in unknown] + [
        Cause(str(cause.get("field", "")), str(cause.get("message", ""))) for cause in listed
    ]


def _complaints(case: Case, code: int, message: str, found: Iterable[Cause]) -> Iterator[str]:
    if code not in REFUSED_WITH:
        yield f"refused with {code}: {message[:200]}"
    if (
        not any(_leads_to(case, cause) for cause in found)
        and f"ObjectMeta.{case.path.removeprefix('metadata.')}" not in message
    ):
        yield f"does not name {case.path}: {message[:300]}"
    # The API server repeats what is no word of an enumeration, however long it is.
    said = message.replace(str(case.value), "...") if isinstance(case.value, str) and case.value else message
    if len(said) > LONGEST_MESSAGE:
        yield f"a message of {len(said):,} characters: {said[:100]}"
    for cause in found:
        if re.search(r"should match '|failed rule", cause.message):
            yield f"a bare expression: {cause.message[:200]}"


def _leads_to(case: Case, cause: Cause) -> bool:
    """Whether a cause leads a person to the field: it names it, something in it, or the object, list or field beside it
    that does not go with it."""
    at, path = cause.field, case.path
    if at == path or at.startswith((f"{path}.", f"{path}[")):
        return True
    if path.startswith((f"{at}.", f"{at}[")) and at not in ("", "spec"):
        return True
    name = path.rpartition(".")[2].partition("[")[0]
    beside = at == "spec" or at.rpartition(".")[0] == path.rpartition(".")[0] or path.startswith(at.rpartition(".")[0])
    if beside and re.search(rf"\b{re.escape(name)}", cause.message):
        return True
    if re.search(rf"\b{re.escape(case.field.removeprefix('spec.'))}", cause.message):
        return True
    return "Duplicate value" in cause.message and at.rpartition("[")[0] == path.rpartition("[")[0] != ""


def messages(crd: Tree) -> list[tuple[str, str]]:
    """The field and the message of every rule of a CRD."""
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return [*_rules(root["metadata"], "metadata"), *_rules(root["spec"], "spec")]


def unmet(crd: Tree, seen: Iterable[str]) -> list[str]:
    """Rules of a CRD that refused nothing, and so are untested: `seen` are the messages of all causes."""
    text = "\n".join(seen)
    return [f"{field}: {message}" for field, message in messages(crd) if message not in text]


def _rules(schema: Tree, field: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield field, rule["message"]
    for name, below in schema.get("properties", {}).items():
        yield from _rules(below, f"{field}.{name}")
    if "items" in schema:
        yield from _rules(schema["items"], f"{field}[]")
