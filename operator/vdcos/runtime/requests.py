"""Requests to the API server as data, so that the engine never touches a socket."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vdcos.core.objects import Key, Resource

Verb = Literal["get", "create", "apply", "patch", "delete", "status"]

JSON = "application/json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Request:
    """One call, complete. ``service``, ``resource``, ``key`` and ``verb`` are for metrics, logs and the guard."""

    service: str
    verb: Verb
    resource: Resource
    key: Key
    method: str
    path: str
    body: bytes | None = None
    content_type: str = JSON
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        return self.verb != "get"


class ApiError(Exception):
    """The API server's refusal, or that it could not be reached.

    ``status`` is the HTTP status; 0 means that no answer came, so that the outcome of a write is unknown.
    ``retry_after`` is in seconds, where the server gave one.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
