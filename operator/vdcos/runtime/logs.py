"""Logs on standard error: one JSON object per line, or text for people."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from vdcos.core.objects import Resource

Format = Literal["json", "text"]

# The fields that a record may carry (logging's `extra`). A closed list, so that nothing slips in unseen.
FIELDS = (
    "service",
    "object",
    "kind",
    "conditions",
    "action",
    "ask",
    "provider",
    "target",
    "result",
    "reason",
    "why",
    "error",
    "status",
    "holder",
    "identity",
    "address",
    "server",
    "version",
    "seconds",
    "count",
)


def qualified(resource: Resource) -> str:
    """A kind's name where several groups have one of that name, as VirtualMachine: ``Kind.group``."""
    return f"{resource.kind}.{resource.group}" if resource.group else resource.kind


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message, in a fixed order."""
    return {name: value for name in FIELDS if (value := getattr(record, name, None)) not in (None, "")}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        said = " ".join(f"{name}={_quoted(value)}" for name, value in fields(record).items())
        line = f"{when} {record.levelname:<7} {record.getMessage()} {said}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quoted(value: Any) -> str:
    """As a word of a line. What a terminal would obey, or a second line, is written as an escape."""
    text = str(value)
    if not text.isprintable():
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text


def configure(style: Format = "json", level: int = logging.INFO, stream: TextIO = sys.stderr) -> None:
    """Send the process's logs to a stream. Libraries speak up from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("vdcos").setLevel(level)
    # kopf warns that it does not handle signals in a thread: that is why it is in one.
    logging.getLogger("kopf").setLevel(logging.ERROR)
