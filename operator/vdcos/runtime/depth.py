"""JSON of any depth. Free JSON (``overrides``) may be nested far deeper than our decoders go, and one such object in a
list or a watch must not stop its whole kind for everybody."""

import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LEVELS = 400
"""More than ``api.parse`` takes, so that it still says what is wrong; less than a decoder can go down."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)


def bounded(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """The decoder, for bodies of any depth: of one that is too deep it gets what lies above."""

    def decoded(body: bytes) -> T:
        try:
            return decode(body)
        except RecursionError:
            return decode(shallow(bytes(body)))

    return decoded


def shallow(body: bytes) -> bytes:
    """The JSON with null in place of what is nested deeper than ``LEVELS``."""
    kept: list[bytes] = []
    level = begin = 0
    for token in _TOKEN.finditer(body):
        if token[0] in (b"{", b"["):
            level += 1
            if level == LEVELS + 1:
                kept += [body[begin : token.start()], b"null"]
        elif token[0] in (b"}", b"]"):
            if level == LEVELS + 1:
                begin = token.end()
            level -= 1
    return b"".join([*kept, body[begin:]])
