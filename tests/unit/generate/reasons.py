"""Why an object is not Ready, as the code has it: every reason that stands where services say that something is wrong.

It reads the source. What it cannot follow it names, so that somebody says where such a reason comes from.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from vdcos.core.conditions import STALLED
from vdcos.services import catalogue

SOURCE = Path(__file__).parents[3] / "operator"
REASON = re.compile(r"^[A-Z][A-Za-z]+$")

SAYING = {
    "false": 1,
    "unknown": 1,
    "Condition": 2,
    "stalled": 0,
    "Problem": 0,
    "Decision": 2,
    "replace": -1,
    "_waits": 1,
}
"""Functions that say that something is wrong, and which of their arguments is the reason, if it has no name there."""
TYPED = ("false", "unknown", "Condition")
"""Those whose first argument is the condition's type."""

OF_OTHERS = ("vdcos.services.hostfailure.restart",)
"""Its reasons are of the VMs that restart, and not of the failure."""

SERVICES = {service.kind.definition.kind: service for service in catalogue.services({})}

ELSEWHERE = {"VirtualMachine": ("vdcos.providers.networks.attach",), "Network": ("vdcos.providers.networks.attach",)}
"""What else says why objects of a kind are not Ready, besides its service. The engine says it of all."""

KUBEVIRT = {
    "BackendStorageNotReady",
    "ErrImagePull",
    "FailedBackendStorageCreate",
    "FailedCreate",
    "FailedCreateValidation",
    "FailedDataVolumeImport",
    "FailedGuaranteeResources",
    "ImagePullBackOff",
    "UnsupportedSyncError",
}
"""Why KubeVirt 1.8 cannot start a VM, if that lasts (pkg/controller/controller.go, pkg/virt-controller/watch)."""

OPEN: dict[str, set[str]] = {
    # What was found out above it, and stands literally there
    "first.reason": set(),
    "general.reason": set(),
    "reason": set(),
    "refusal[0]": set(),
    "case.hardware[0][0]": set(),
    # What is stored already
    "each.reason": set(),
    "condition.get('reason', '')": set(),
    # Literals of the API
    "suspect.verdict": {"Suspect", "Dead", "ApiTrouble"},
    # Others' words
    "synchronized.reason": KUBEVIRT,
    "failure.reason": KUBEVIRT,
}
"""Where reasons come from that are no words where they are said."""

PUT_TOGETHER = {"Missing": {"SecretMissing", "ConfigMapMissing", "InstancetypeMissing", "PreferenceMissing"}}
PUT_TOGETHER["Unreadable"] = {"InstancetypeUnreadable", "PreferenceUnreadable"}


def of(kind: str) -> set[str]:
    """All reasons that Ready of an object of this kind may have while it is not True."""
    service = SERVICES[kind]
    package = type(service).__module__.rpartition(".")[0]
    needed = (*service.needed, "Applied")  # what the engine says of failed writes comes before all else
    found = [read(each, needed) for each in (package, "vdcos.runtime.engine", *ELSEWHERE.get(kind, ()))]
    said = {reason for each in found for reason in each.reasons}
    for each in found:
        said |= {reason for ending in each.endings for reason in PUT_TOGETHER[ending]}
        assert each.open <= OPEN.keys(), f"say in OPEN where these come from: {each.open - OPEN.keys()}"
        said |= {reason for expression in each.open for reason in OPEN[expression]}
    return said | {"NotEvaluated"}


@dataclass
class Found:
    """What the source says."""

    reasons: set[str] = field(default_factory=set)
    endings: set[str] = field(default_factory=set)
    """Of reasons that are put together, such as Secret and Missing."""
    open: set[str] = field(default_factory=set)
    """Expressions that are no words."""


def read(package: str, needed: tuple[str, ...]) -> Found:
    """The reasons in the modules of a package (or in one module) that Ready may have, being made of ``needed``."""
    found = Found()
    root = SOURCE / package.replace(".", "/")
    for path in sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]:
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if name in OF_OTHERS:
            continue
        module = importlib.import_module(name)
        for function in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)):
            _read(function, module, needed, found)
    return found


def _read(function: ast.FunctionDef, module: ModuleType, needed: tuple[str, ...], found: Found) -> None:
    local = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for said in _said(function, module, needed):
        for part in _parts(local.get(said.id, said) if isinstance(said, ast.Name) else said):
            if isinstance(part, ast.JoinedStr):
                found.endings.add(str(ast.literal_eval(part.values[-1])))
            elif isinstance(value := _value(part, module), str):
                found.reasons |= {value} if value else set()
            else:
                found.open.add(ast.unparse(part))


def _said(function: ast.FunctionDef, module: ModuleType, needed: tuple[str, ...]) -> Iterator[ast.expr]:
    """The expressions that are reasons."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            position = SAYING.get(name)
            if position is None:
                continue
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "reason")
            if not 0 <= position < len(node.args):
                continue
            about = _value(node.args[0], module) if name in TYPED else STALLED
            well = name == "Condition" and _value(node.args[1], module) == "True" and about != STALLED
            if not well and (not isinstance(about, str) or about in (*needed, STALLED)):
                yield node.args[position]
        elif (
            isinstance(node, ast.Return | ast.Yield) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2
        ):
            word, message = node.value.elts
            is_text = isinstance(message, ast.JoinedStr | ast.Constant | ast.Attribute)
            if is_text and all(_is_word(part, module) for part in _parts(word)):
                yield word


def _is_word(expression: ast.expr, module: ModuleType) -> bool:
    value = _value(expression, module)
    return isinstance(expression, ast.JoinedStr) or (isinstance(value, str) and bool(REASON.match(value)))


def _parts(expression: ast.expr) -> Iterator[ast.expr]:
    """What an expression may come to."""
    if isinstance(expression, ast.IfExp):
        yield from (*_parts(expression.body), *_parts(expression.orelse))
    elif isinstance(expression, ast.BoolOp):
        yield from (part for value in expression.values for part in _parts(value))
    else:
        yield expression


def _value(expression: ast.expr, module: ModuleType) -> Any:
    """A literal, or a constant by its name; None for all else."""
    if isinstance(expression, ast.Constant):
        return expression.value
    if isinstance(expression, ast.Name):
        return getattr(module, expression.id, None)
    if isinstance(expression, ast.Attribute):
        return getattr(_value(expression.value, module), expression.attr, None)
    return None
