"""Every field times everything that can be wrong with it, made from a CRD's schema and a few complete objects.

Pure and deterministic: the same schema and objects give the same cases in the same order. Nothing here depends on the
bounds that a schema has: what is far too long or far too large is tried in any case, so that a forgotten bound shows.
"""

import copy
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from vdcos.core import quantity

Tree = dict[str, Any]
Path = tuple[str | int, ...]

Group = Literal[
    "missing", "wrong type", "below", "above", "boundary", "huge", "unicode", "syntax", "other word", "union",
    "duplicate", "unknown", "transition",
]  # fmt: skip
"""What is wrong, or at the limit: `syntax` is text of another form, `other word` another member of an enumeration,
`union` a field beside those that may exclude it, `transition` an update of a stored object."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One object to create, or to update the stored object `stored` with."""

    kind: str
    field: str
    """Where in the schema: "spec.disks[].size"; values of maps as "spec.nodeSelector{}"."""
    path: str
    """Where in the object: "spec.disks[0].size"."""
    group: Group
    what: str
    """What was done to the field, in words."""
    value: Any
    """What stands there; GONE when nothing does."""
    manifest: Tree
    stored: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.path}: {self.group}, {self.what}" + (f" of {self.stored}" if self.stored else "")


@dataclasses.dataclass(frozen=True)
class Place:
    """A value in a complete object, with its schema."""

    base: Tree
    path: Path
    field: str
    schema: Tree
    value: Any
    required: bool


class Gone:
    """In place of a value: the field is removed."""


GONE = Gone()

Change = tuple[Group, str, Any]
"""What is wrong, in words, and the value that takes the place's."""


def cases(crd: Mapping[str, Any], bases: Sequence[Tree]) -> list[Case]:
    """All cases of a kind. `bases` are valid objects that together have every field of the spec."""
    kind = crd["spec"]["names"]["kind"]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    everywhere = [place for base in bases for place in _places(base, schema)]
    specimens = _specimens(everywhere)
    found: dict[str, Case] = {}
    seen: set[str] = set()
    for place in everywhere:
        known = specimens[place.field]
        siblings = [((*place.path, name), value) for name, value in _siblings(place, specimens)]
        beside = ", ".join(map(str, place.value)) if siblings else ""
        changes: list[tuple[Path, Change]] = [(path, ("union", f"beside {beside}", value)) for path, value in siblings]
        if place.field not in seen:
            changes += [(place.path, change) for change in _changes(place)]
            changes += [((*place.path, name), change) for name, change in _strangers(place)]
        else:
            changes += [(place.path, change) for change in _values(place)]
        for path, change in changes:
            _add(found, kind, place, path, change, create=True)
        if place.path != ("metadata", "name"):
            for change in _transitions(place, known, first=place.field not in seen):
                _add(found, kind, place, place.path, change, create=False)
            for path, value in siblings:
                _add(found, kind, place, path, ("transition", "added", value), create=False)
        seen.add(place.field)
    return list(found.values())


def _add(found: dict[str, Case], kind: str, place: Place, path: Path, change: Change, *, create: bool) -> None:
    group, what, value = change
    manifest = _with(place.base, path, value)
    stored = None
    if create:
        if manifest["metadata"].get("name") == place.base["metadata"]["name"]:
            manifest["metadata"] = {**manifest["metadata"], "name": "candidate"}
    else:
        stored = place.base["metadata"]["name"]
    field = place.field if path == place.path else f"{place.field}.{path[-1]}"
    case = Case(kind, field, spelled(path), group, what, value, manifest, stored)
    found.setdefault(json.dumps([stored, manifest], sort_keys=True), case)


def spelled(path: Path) -> str:
    """A path as the API server writes it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def fields(schema: Mapping[str, Any], field: str = "spec") -> Iterator[str]:
    """Every field of a schema node and below, as `Case.field` names them."""
    yield field
    for name, below in schema.get("properties", {}).items():
        yield from fields(below, f"{field}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{field}[]")
    if "additionalProperties" in schema:
        yield from fields(schema["additionalProperties"], f"{field}{{}}")


def _places(base: Tree, schema: Tree) -> Iterator[Place]:
    top = schema["properties"]
    name = base["metadata"]["name"]
    yield Place(base, ("metadata", "name"), "metadata.name", top["metadata"]["properties"]["name"], name, True)
    yield from _below(Place(base, ("spec",), "spec", top["spec"], base["spec"], True))


def _below(place: Place) -> Iterator[Place]:
    yield place
    schema, value = place.schema, place.value
    if "properties" in schema:
        for name, item in value.items():
            required = name in schema.get("required", ())
            yield from _below(
                Place(
                    place.base, (*place.path, name), f"{place.field}.{name}", schema["properties"][name], item, required
                )
            )
    elif "additionalProperties" in schema:
        for name, item in value.items():
            below = schema["additionalProperties"]
            yield from _below(Place(place.base, (*place.path, name), f"{place.field}{{}}", below, item, False))
    elif "items" in schema:
        for number, item in enumerate(value):
            yield from _below(
                Place(place.base, (*place.path, number), f"{place.field}[]", schema["items"], item, False)
            )


def _specimens(places: Iterable[Place]) -> dict[str, list[Any]]:
    """The different values that the complete objects have, by field."""
    found: dict[str, list[Any]] = {}
    for place in places:
        known = found.setdefault(place.field, [])
        if place.value not in known:
            known.append(place.value)
    return found


def _with(tree: Any, path: Path, value: Any) -> Any:
    """A copy of the tree with another value at the path; what did not change is shared."""
    if not path:
        return value
    step, *rest = path
    if isinstance(tree, list):
        assert isinstance(step, int)
        if value is GONE and not rest:
            return tree[:step] + tree[step + 1 :]
        return [*tree[:step], _with(tree[step], tuple(rest), value), *tree[step + 1 :]]
    if value is GONE and not rest:
        return {name: item for name, item in tree.items() if name != step}
    return {**tree, step: _with(tree.get(step), tuple(rest), value)}


# What can be wrong


WRONG_TYPES: Mapping[str, tuple[Any, str]] = {
    "text": ("text", "string"),
    "a number in quotes": ("1", "string"),
    "a number": (7, "integer"),
    "a fraction": (1.5, "number"),
    "true": (True, "boolean"),
    "a list": ([], "array"),
    "a list of text": (["a"], "array"),
    "an object": ({}, "object"),
    "an object with a field": ({"a": 1}, "object"),
}


def _changes(place: Place) -> Iterator[Change]:
    schema = place.schema
    in_list = bool(place.path) and isinstance(place.path[-1], int)
    if not in_list:
        yield "missing", "left out" if place.required else "left out (optional)", GONE
    yield ("wrong type" if in_list else "missing"), "null" if place.required or in_list else "null (optional)", None
    wanted = schema.get("type")
    for what, (value, kind) in WRONG_TYPES.items():
        if kind != wanted:
            yield "wrong type", what, value
    match wanted:
        case "boolean":
            yield "other word", "the other one", not place.value
        case "integer":
            yield from _numbers(schema)
        case "string" if "enum" in schema:
            yield from _words(schema["enum"], place.value)
        case "string":
            yield from _texts(schema, place.value)
        case "array":
            yield from _lists(schema, place.value)
        case "object" if "additionalProperties" in schema:
            yield from _maps(schema, place.value)
        case "object":
            if place.value:
                yield "missing", "empty", {}
        case _:
            yield "other word", "null", None
            yield "huge", "a deep value", _deep(200)
            yield "huge", "100,000 characters", "a" * 100_000


def _values(place: Place) -> Iterator[Change]:
    """What a rule over several fields may forbid here though it is allowed elsewhere."""
    schema = place.schema
    match schema.get("type"):
        case "boolean":
            yield "other word", "the other one", not place.value
        case "integer":
            yield from _numbers(schema)
        case "string" if "enum" in schema:
            yield from (("other word", word, word) for word in schema["enum"] if word != place.value)
        case "string":
            yield from _amounts(schema)


def _numbers(schema: Tree) -> Iterator[Change]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None:
        yield "below", "one below the minimum", least - 1
        yield "boundary", "the minimum", least
        yield "boundary", "one above the minimum", least + 1
    if most is not None:
        yield "above", "one above the maximum", most + 1
        yield "boundary", "the maximum", most
        yield "boundary", "one below the maximum", most - 1
    yield "below", "-1", -1
    yield "below", "far below", -(2**63)
    yield "below", "a large negative number", -(2**31) - 1
    for bits in (31, 32, 53, 63, 64):
        yield "huge", f"2^{bits}", 2**bits
    yield "huge", "10^300", 10**300
    yield "wrong type", "a fraction within the bounds", (least or 0) + 0.5
    yield "wrong type", "a tiny fraction", 1e-9
    yield "boundary", "the minimum with a decimal point", float(least or 0)


def _words(words: Sequence[str], value: str) -> Iterator[Change]:
    for word in words:
        if word != value:
            yield "other word", word, word
    for what, odd in {
        "no text": "",
        "lower case": value.lower(),
        "upper case": value.upper(),
        "another word": "Other",
        "a blank behind": f"{value} ",
        "a blank before": f" {value}",
        "a line end": f"{value}\n",
        "two words": f"{value},{words[0]}",
        "a prefix": value[:-1],
        "a number": "0",
        "a null": "null",
        "a pattern": ".*",
    }.items():
        if odd not in words:
            yield "syntax", what, odd
    yield "unicode", "a look-alike", value.translate(_LOOK_ALIKES) + "\u200b"
    yield "unicode", "full width", _full_width(value)
    yield "huge", "100,000 characters", value * (100_000 // len(value) + 1)


_LOOK_ALIKES = str.maketrans("aeiopcyxAEOPCTXB", "аеіорсухАЕОРСТХВ")


def _full_width(text: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


_UNICODE: Mapping[str, str] = {
    "an accent": "é", "a combining accent": "e\u0301", "Chinese": "虚拟机", "an emoji": "🖥️",
    "right to left": "\u202egpj",
    "a zero-width space": "\u200b", "a byte order mark": "\ufeff", "a non-breaking space": "\u00a0",
    "a line separator": "\u2028", "the last code point": "\U0010ffff", "a dotless i": "ı", "the Kelvin sign": "\u212a",
    "a Cyrillic a": "а", "an Arabic digit": "٣", "a soft hyphen": "\u00ad", "a half of a pair": "\ud800",
}  # fmt: skip
_CONTROLS: Mapping[str, str] = {
    "a null character": "\x00", "an escape": "\x1b[31m", "a tab": "\t", "a line end": "\n", "a carriage return": "\r\n",
}  # fmt: skip
_MARKS = " -._/\\:;,@%*+=$\"'<{["
_EDGES = " -._/:"
_WHOLE: Mapping[str, str] = {
    "no text": "", "a blank": " ", "null": "null", "true": "true", "zero": "0", "a fraction": "0.5",
    "an exponent": "1e3",
    "not a number": "NaN", "a date": "2026-01-01", "two dots": "..", "a way up": "../../etc/passwd",
    "a path": "/dev/sda",
    "a pattern": "^.*$", "a shell command": "$(reboot)", "a template": "{{ .Values.name }}",
    "an IPv4 address": "192.0.2.1", "an empty MAC address": "00:00:00:00:00:00",
    "a network with host bits": "192.0.2.1/24", "a network without end": "10.0.0.0/33", "a URL": "http://example.org",
    "a URL with credentials": "https://user:secret@example.org/a", "a file URL": "file:///etc/passwd",
    "a host with a port": "example.org:80", "a size": "1Gi", "a negative size": "-1Gi", "a size in bytes": "1073741824",
    "a size with a B": "1GB", "a size in thousandths": "1500m", "a size without digits": ".Gi", "no size": "0Gi",
    "a size with a blank": "1 Gi", "a reserved name": "vdcos-a",
    "a key of Kubernetes": "node.kubernetes.io/unreachable",
    "a taken word": "manual", "another taken word": "bmc",
}  # fmt: skip


def _texts(schema: Tree, value: str) -> Iterator[Change]:
    for what, odd in _UNICODE.items():
        yield "unicode", f"{what} behind", value + odd
    yield "unicode", "Chinese alone", _UNICODE["Chinese"]
    yield "unicode", "full width", _full_width(value)
    for what, odd in _CONTROLS.items():
        yield "syntax", f"{what} behind", value + odd
    for mark in _EDGES:
        yield "syntax", f"{mark} behind", value + mark
        yield "syntax", f"{mark} before", mark + value
    for mark in _MARKS:
        yield "syntax", f"{mark} within", value[:1] + mark + value[1:]
    for what, odd in _WHOLE.items():
        yield "syntax", what, odd
    yield "syntax", "upper case", value.upper()
    yield "syntax", "twice", value + value
    yield "syntax", "without its end", value[:-1]
    yield from _lengths(schema, value)
    yield from _amounts(schema)


def _lengths(schema: Tree, value: str) -> Iterator[Change]:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least > 1:
        yield "below", "one character too few", value[: least - 1]
    if most is not None:
        filler = value[-1:] if value[-1:].isalnum() else "a"
        yield "boundary", "as long as allowed", value + filler * (most - len(value))
        yield "above", "one character too long", value + filler * (most + 1 - len(value))
        yield "unicode", "as many letters of several bytes as allowed", "é" * most
    for size in (10_000, 1_000_000):
        yield "huge", f"{size:,} characters", value + "a" * size
        yield "huge", f"{size:,} digits", "1" * size
    yield "huge", "100,000 characters of several bytes", "虚" * 100_000


_BOUNDS = re.compile(r"compareTo\(quantity\('([^']+)'\)\) (>=|<=) 0")


def _amounts(schema: Tree) -> Iterator[Change]:
    """Beyond and at the bounds of a quantity, which stand in a CEL rule."""
    for rule in schema.get("x-kubernetes-validations", ()):
        for bound, sign in _BOUNDS.findall(rule["rule"]):
            amount = quantity.parse(bound)
            step = Decimal("0.001") if bound.endswith("m") else Decimal(1)
            yield "boundary", f"the bound {bound}", bound
            yield "boundary", f"just within {bound}", _plain(amount + step if sign == ">=" else amount - step)
            if sign == ">=":
                yield "below", f"just below {bound}", _plain(amount - step)
                yield "below", f"far below {bound}", _plain(amount / 1000)
            else:
                yield "above", f"just above {bound}", _plain(amount + step)
                yield "above", f"far above {bound}", _plain(amount * 1000)
    if _is_quantity(schema):
        yield "huge", "as many digits as fit", "9" * 15 + "P"
        yield "huge", "an overflow", "9" * 18 + "P"


def _is_quantity(schema: Tree) -> bool:
    return any("quantity(self)" in rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))


def _plain(amount: Decimal) -> str:
    return str(int(amount)) if amount == int(amount) else f"{int(amount * 1000)}m"


def _lists(schema: Tree, value: list[Any]) -> Iterator[Change]:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    template = value[-1]
    yield ("below" if least else "boundary"), "empty", []
    if most is not None:
        yield "boundary", "as many as allowed", value + _copies(schema, template, most - len(value))
        yield "above", "one too many", value + _copies(schema, template, most + 1 - len(value))
    yield "huge", "2,000 items", value + _copies(schema, template, 2_000)
    if schema.get("x-kubernetes-list-type") == "atomic":
        yield "other word", "an item twice", [*value, value[0]]
    else:
        yield "duplicate", "the first item twice", [*value, value[0]]
        yield "duplicate", "the last item twice", [*value, template]
    if keys := schema.get("x-kubernetes-list-map-keys"):
        only = {key: item for key, item in value[0].items() if key in keys}
        yield "duplicate", "the keys of an item again", [*value, {**template, **only}]
    yield "wrong type", "a null as an item", [*value, None]
    yield "wrong type", "a list as an item", [*value, []]
    yield "wrong type", "a list around it", [value]
    if len(value) > 1:
        yield "other word", "in another order", value[::-1]
    yield "other word", "one less", value[:-1] or value


def _copies(schema: Tree, template: Any, count: int) -> list[Any]:
    """More items like one, with keys of their own."""
    if isinstance(template, str):
        return [_another(template, number) for number in range(count)]
    keys = schema.get("x-kubernetes-list-map-keys", ())
    inside = schema["items"]["properties"]
    free = next((key for key in keys if "enum" not in inside[key]), None)
    return [{**template, free: _another(template[free], number)} if free else template for number in range(count)]


def _another(name: str, number: int) -> str:
    return f"{name}/{number}" if name.startswith("/") else f"{name}{number}"


def _maps(schema: Tree, value: Mapping[str, Any]) -> Iterator[Change]:
    least, most = schema.get("minProperties", 0), schema.get("maxProperties")
    any_value = next(iter(value.values()))
    yield ("below" if least else "boundary"), "empty", {}
    if most is not None:
        yield "boundary", "as many as allowed", _numbered(value, any_value, most)
        yield "above", "one too many", _numbered(value, any_value, most + 1)
    yield "huge", "2,000 entries", _numbered(value, any_value, 2_000)
    for what, key in {
        "no text": "", "a blank": " ", "a dash": "-", "two slashes": "a/b/c", "a slash at the end": "a/",
        "a slash at the start": "/a", "a line end": "a\n", "a null character": "\x00", "a tag": "<a>",
        "an underscore": "_a", "a domain in upper case": "Example.org/a",
        "a taken word": "action",
    }.items():  # fmt: skip
        yield "syntax", f"{what} as a key", {**value, key: any_value}
    for what, key in _UNICODE.items():
        yield "unicode", f"{what} as a key", {**value, key: any_value}
    yield "boundary", "a key of 63 characters", {**value, "k" * 63: any_value}
    yield "above", "a key of 64 characters", {**value, "k" * 64: any_value}
    yield "huge", "a key of 100,000 characters", {**value, "k" * 100_000: any_value}


def _numbered(value: Mapping[str, Any], item: Any, count: int) -> Tree:
    return {**value, **{f"k{number}": item for number in range(count - len(value))}}


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def _strangers(place: Place) -> Iterator[tuple[str, Change]]:
    """Fields that do not exist, and existing ones spelled in another way. The field that is meant goes."""
    if place.schema.get("type") != "object" or "additionalProperties" in place.schema:
        return
    for name in ("unknown", "x-unknown", "a b", "", "été", "__proto__", "$ref", "0"):
        yield name, ("unknown", "a field that does not exist", "a")
    for name, value in place.value.items():
        snake = re.sub("([A-Z])", r"_\1", name).lower()
        for other in (name.capitalize(), name.upper(), snake, f"{name} ", f"{name}s"):
            if other not in place.schema["properties"]:
                yield other, ("unknown", "a field that is spelled in another way", value)


def _siblings(place: Place, specimens: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, Any]]:
    """Fields that this object does not have, but others like it do: of a union, or such as exclude each other."""
    for name in place.schema.get("properties", {}):
        if name not in place.value:
            for value in specimens.get(f"{place.field}.{name}", ()):
                yield name, copy.deepcopy(value)


# What can be changed


def _transitions(place: Place, specimens: Sequence[Any], *, first: bool) -> Iterator[Change]:
    schema, value = place.schema, place.value
    for other in specimens:
        if other != value and type(other) is type(value):
            yield "transition", "to another's value", other
    if not first or place.path == ("spec",):
        return
    yield "transition", "removed", GONE
    match schema.get("type"):
        case "boolean":
            yield "transition", "to the other one", not value
        case "integer":
            yield "transition", "one more", value + 1
            yield "transition", "one less", value - 1
        case "string" if "enum" in schema:
            for word in schema["enum"]:
                yield "transition", f"to {word}", word
        case "string":
            for what, other in {
                "another text": f"{value}a",
                "in upper case": value.upper(),
                "shorter": value[:-1],
            }.items():
                yield "transition", what, other
            if _is_quantity(schema):
                for what, factor in {
                    "half": Decimal("0.5"),
                    "double": Decimal(2),
                    "the same in units": Decimal(1),
                }.items():
                    yield "transition", what, _plain(quantity.parse(value) * factor)
        case "array":
            yield "transition", "in another order", value[::-1]
            yield "transition", "without the first", value[1:]
            yield "transition", "without the last", value[:-1]
            yield "transition", "with one more", value + _copies(schema, value[-1], 1)
        case "object" if "additionalProperties" in schema:
            yield "transition", "with one more", {**value, "added": next(iter(value.values()))}
