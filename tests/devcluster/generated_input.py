"""The generated bad input meets a real API server; what that accepts meets the operator's services.

Requests are server-side dry runs with strict field validation, as kubectl does them; only the complete objects that
updates start from are stored.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import json
import multiprocessing
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import aiohttp
import yaml

from devcluster.cluster import Cluster
from tests.devcluster import convergence
from vdcos import api
from vdcos.testing.badinput import verdict
from vdcos.testing.badinput.cases import Case, Group, cases

ROOT = Path(__file__).parents[2]
COMPLETE = Path(__file__).parent / "bad_input" / "complete"
PARALLEL = 16

Tree = dict[str, Any]


@functools.cache
def crd(kind: str) -> Tree:
    """The definition of a kind as it is installed."""
    read: Tree = yaml.load((ROOT / "crds" / f"{api.KINDS[kind].definition.plural}.yaml").read_text(), yaml.CSafeLoader)
    return read


@functools.cache
def complete(kind: str) -> list[Tree]:
    """Objects that together have every field of a kind."""
    return list(yaml.load_all((COMPLETE / f"{kind.lower()}.yaml").read_text(), yaml.CSafeLoader))


def every_case() -> list[Case]:
    return [case for kind in api.KINDS for case in cases(crd(kind), complete(kind))]


def sample(every: Sequence[Case], of_each: int) -> list[Case]:
    """The same few of every kind and group, in no order that means anything."""
    groups: dict[tuple[str, str], list[Case]] = collections.defaultdict(list)
    for case in every:
        groups[case.kind, case.group].append(case)
    return [
        case
        for group in groups.values()
        for case in sorted(group, key=lambda case: hashlib.sha256(str(case).encode()).digest())[:of_each]
    ]


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a case."""

    case: Case
    code: int
    answer: Tree
    verdict: verdict.Verdict
    parsed: str = ""
    """Why the parser refused, empty when it did not."""

    @property
    def legal(self) -> bool:
        return self.verdict.outcome == "legal"

    @property
    def complaints(self) -> list[str]:
        return [*self.verdict.complaints, *self._disagreement()]

    def _disagreement(self) -> Iterator[str]:
        """The parser and the API server must agree, or the difference has a reason."""
        if self.legal and self.parsed and self.parsed != api.TOO_DEEP:
            yield f"accepted, but the operator cannot read it: {self.parsed}"
        if not self.legal and not self.parsed and not laxer(self):
            yield f"the parser takes it, for no known reason; the API server says: {self.verdict.why[:200]}"


def laxer(result: Result) -> str:
    """Why the parser may accept what the API server refuses; empty when there is no reason."""
    case, said = result.case, verdict.causes(result.answer)
    if case.stored:
        return "an update: the parser sees one object, not two"
    if any(cause.message == "unknown field" for cause in said):
        return "unknown fields of newer versions are ignored"
    if case.path.startswith("metadata."):
        return "metadata is the API server's business"
    if any("Duplicate value" in cause.message for cause in said):
        return "what stands twice in a set stands in it"
    if any(cause.message.endswith(rule) for cause in said for rule in rules(case.kind)):
        return "a CEL rule, which the API server alone evaluates, at every write"
    return ""


@functools.cache
def rules(kind: str) -> frozenset[str]:
    """What the rules of a kind say."""
    return frozenset(message for _, message in verdict.messages(crd(kind)))


class Server:
    """The API server, with the complete objects stored in it."""

    def __init__(self, session: aiohttp.ClientSession, namespace: str) -> None:
        self._session = session
        self._namespace = namespace
        self.stored: dict[tuple[str, str], Tree] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, cluster: Cluster, namespace: str) -> AsyncIterator["Server"]:
        tls = ssl.create_default_context(cafile=str(cluster.ca))
        async with aiohttp.ClientSession(
            cluster.server,
            connector=aiohttp.TCPConnector(ssl=tls, limit=PARALLEL),
            headers={"Authorization": f"Bearer {cluster.token}"},
            timeout=aiohttp.ClientTimeout(total=60),
        ) as session:
            server = cls(session, namespace)
            for kind in api.KINDS:
                for base in complete(kind):
                    code, answer = await server.send("POST", base, dry=False)
                    assert code == 201, answer
                    server.stored[kind, base["metadata"]["name"]] = answer
            try:
                yield server
            finally:
                for base in server.stored.values():
                    await server.send("DELETE", base, dry=False)

    async def send(self, method: str, manifest: Mapping[str, Any], *, dry: bool = True) -> tuple[int, Tree]:
        """The HTTP status and the answer."""
        name = manifest.get("metadata", {}).get("name")
        path = self._path(manifest) + (f"/{name}" if name and method != "POST" else "")
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry else {})
        body = io.BytesIO(json.dumps(manifest).encode()) if method in ("POST", "PUT") else None
        async with self._session.request(
            method, path, params=query, data=body, headers={"Content-Type": "application/json"}
        ) as response:
            return response.status, await response.json(content_type=None)

    def _path(self, manifest: Mapping[str, Any]) -> str:
        version, kind = manifest["apiVersion"], manifest["kind"]
        if version != api.API_VERSION:
            return f"/apis/{version}/namespaces/{self._namespace}/{kind.lower()}s"
        definition = api.KINDS[kind].definition
        within = f"namespaces/{self._namespace}/" if definition.scope == "Namespaced" else ""
        return f"/apis/{version}/{within}{definition.plural}"

    async def listed(self, kind: str) -> dict[str, str]:
        """The resource versions of all objects of a kind, by name."""
        code, answer = await self.send("GET", {"apiVersion": api.API_VERSION, "kind": kind})
        assert code == 200, answer
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in answer["items"]}

    async def meet(self, case: Case, *, dry: bool = True) -> Result:
        """Send a case, and let the parser see what the API server makes of it."""
        manifest = case.manifest
        if case.stored:
            live = self.stored[case.kind, case.stored]["metadata"]
            manifest = {**manifest, "metadata": {**live, **manifest["metadata"]}}
        code, answer = await self.send("PUT" if case.stored else "POST", manifest, dry=dry)
        seen = verdict.judge(case, code, answer)
        parsed = ""
        try:
            api.parse(api.KINDS[case.kind], answer if seen.outcome == "legal" else manifest)
        except api.InvalidObject as error:
            parsed = str(error)
        return Result(case, code, answer, seen, parsed)

    async def meet_all(self, those: Iterable[Case]) -> list[Result]:
        return await _all(self.meet, those)

    async def judges(self, child: Tree) -> str:
        """What the API server, with the webhooks of KubeVirt and CDI, says against a child; empty when nothing."""
        there = json.dumps(child).replace(f'"{convergence.NAMESPACE}"', f'"{self._namespace}"')
        code, answer = await self.send("POST", json.loads(there))
        return "" if code == 201 else f"{code}: {answer.get('message')}"

    async def judge_all(self, children: Iterable[Tree]) -> list[str]:
        return await _all(self.judges, children)


T = TypeVar("T")
R = TypeVar("R")


async def _all(function: Callable[[T], Awaitable[R]], those: Iterable[T]) -> list[R]:
    slots = asyncio.Semaphore(PARALLEL)

    async def one(each: T) -> R:
        async with slots:
            return await function(each)

    return list(await asyncio.gather(*map(one, those)))


# Where it ends


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A result and, where the operator may meet the object, where it comes to rest."""

    result: Result
    end: convergence.End | None = None
    raised: str = ""
    refused: str = ""
    """What KubeVirt or CDI has against the children; the operator says so in the object's status."""

    @property
    def word(self) -> str:
        if not self.result.legal:
            return "refused"
        return "converged" if self.end and self.end.ready and not self.refused else "says why"

    @property
    def complaints(self) -> list[str]:
        found = [*self.result.complaints]
        if self.raised:
            found.append(f"the operator fails: {self.raised}")
        elif self.end and self.end.silent:
            found.append(f"comes to rest without a word: {self.end.reason} {self.end.message}")
        return found


def operated(result: Result) -> Outcome:
    """What the operator makes of a legal object, and of one that only a laxer CRD would have let in."""
    case = result.case
    stored = result.answer if result.legal else case.manifest
    # No CRD ever let more digits in than a number of bytes can have.
    never = case.group in ("unknown", "huge") or case.field == "metadata.name"
    unserved = case.kind not in convergence.SERVICES
    if unserved or (not result.legal and (result.parsed or case.stored or never)):
        return Outcome(result)
    before = next((base for base in complete(case.kind) if base["metadata"]["name"] == case.stored), None)
    try:
        return Outcome(result, convergence.end(stored, before))
    except Exception as error:  # noqa: BLE001  whatever it is, it is the finding
        return Outcome(result, raised=f"{type(error).__name__}: {error}")


async def operate(server: Server, results: Sequence[Result], workers: int = 1) -> list[Outcome]:
    """Every result with its end, and with what KubeVirt and CDI say of its children."""
    if workers == 1:
        outcomes = list(map(operated, results))
    else:
        with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            outcomes = list(pool.map(operated, results, chunksize=50))
    children = {
        json.dumps(child, sort_keys=True): child
        for outcome in outcomes
        if outcome.end and outcome.result.legal
        for child in outcome.end.children
    }
    said = dict(zip(children, await server.judge_all(children.values()), strict=True))
    return [dataclasses.replace(outcome, refused=_first_refusal(outcome, said)) for outcome in outcomes]


def _first_refusal(outcome: Outcome, said: Mapping[str, str]) -> str:
    children = outcome.end.children if outcome.end and outcome.result.legal else ()
    return next(filter(None, (said[json.dumps(child, sort_keys=True)] for child in children)), "")


# What to tell


def unused(outcomes: Iterable[Outcome]) -> list[str]:
    """Rules that refused nothing, and classes of legal input that nothing belongs to."""
    found = [outcome.result for outcome in outcomes]
    silent = [
        f"{kind}: no case was refused by {rule}"
        for kind in api.KINDS
        for rule in verdict.unmet(
            crd(kind),
            {cause.message for result in found if result.case.kind == kind for cause in verdict.causes(result.answer)},
        )
    ]
    met = {result.verdict.why for result in found if result.legal}
    return silent + [f"no case is legal because: {legal.why}" for legal in verdict.LEGAL if legal.why not in met]


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts by kind and group."""
    words = ("refused", "converged", "says why")
    counted = collections.Counter((o.result.case.kind, o.result.case.group, o.word) for o in outcomes)
    lines = [f"{'kind':<16}{'class':<12}{'cases':>8}{'refused':>9}{'legal':>8}{'converged':>11}{'says why':>10}"]
    for kind in api.KINDS:
        for group in [*get_args(Group), "all"]:
            refused, converged, why = (
                sum(n for (k, g, w), n in counted.items() if k == kind and w == word and group in (g, "all"))
                for word in words
            )
            if refused + converged + why:
                legal = converged + why
                lines.append(f"{kind:<16}{group:<12}{refused + legal:>8}{refused:>9}{legal:>8}{converged:>11}{why:>10}")
    return "\n".join(lines)


def document(outcomes: Sequence[Outcome], seconds: float) -> Tree:
    """The same for programs, with the classes of legal input and the reasons of what does not converge."""
    cells = collections.Counter((o.result.case.kind, o.result.case.group, o.word) for o in outcomes)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (kind, group, word), number in sorted(cells.items()):
        counts.setdefault(kind, {}).setdefault(group, {})[word] = number
    laxness = collections.Counter(laxer(o.result) for o in outcomes if not o.result.legal and not o.result.parsed)
    return {
        "cases": len(outcomes),
        "seconds": round(seconds, 1),
        "refused": sum(not o.result.legal for o in outcomes),
        "legal": sum(o.result.legal for o in outcomes),
        "converged": sum(o.word == "converged" for o in outcomes),
        "says_why": sum(o.word == "says why" for o in outcomes),
        "complaints": sum(bool(o.complaints) for o in outcomes),
        "counts": counts,
        "legal_because": dict(collections.Counter(o.result.verdict.why for o in outcomes if o.result.legal)),
        "parser_laxer_because": dict(laxness),
        "reasons": dict(collections.Counter(_reason(o) for o in outcomes if o.word == "says why")),
        "refused_by_webhooks": dict(collections.Counter(o.refused for o in outcomes if o.refused).most_common(100)),
    }


def _reason(outcome: Outcome) -> str:
    if outcome.refused:
        return "Refused"
    return outcome.end.reason if outcome.end else ""
