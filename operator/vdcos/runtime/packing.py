"""Objects at rest, in few bytes: JSON, deflated against others of their kind.

Objects of one kind are nearly the same text: keys, conditions, words. With some of them as the preset dictionary
(``deflateSetDictionary`` of zlib), little is left of one. What is in use is kept as it is. The figures are in
docs/decisions/0021-memory-per-store.md.
"""

import zlib
from collections.abc import Callable, Iterator, MutableMapping

import msgspec

from vdcos.core.objects import Key, Own, Stored

SAMPLES = 8
"""So many objects of a kind are kept as they are; those that come later are deflated against them."""
IN_USE = 256
"""So many objects of a kind, the last that were touched, are kept as they are: one that changes again and again is
deflated once, when it has come to rest."""

_WINDOW_BITS = 13  # 8 KiB, for the dictionary and the object
_MEMORY_LEVEL = 4  # a smaller table to clear for each object: five times as fast, a tenth larger
_DICTIONARY = 1 << _WINDOW_BITS


class Packed(MutableMapping[Key, Stored]):
    """Stored objects by key. ``decode`` makes one of what ``encoded`` gives.

    Cluster-scoped ones are few, and plans look at all of them at once (hosts): they stay as they are.
    """

    def __init__(self, decode: Callable[[bytes], Stored], every: bool = False) -> None:
        """``every``: pack cluster-scoped ones, too."""
        self._decode, self._every = decode, every
        self._held: dict[Key, Stored | bytes] = {}
        self._in_use: dict[Key, Stored] = {}
        self._samples: list[bytes] = []
        self._dictionary = b""

    def __getitem__(self, key: Key) -> Stored:
        found = self._in_use.pop(key, None)
        if found is None:
            held = self._held[key]
            if not isinstance(held, bytes):
                return held
            found = self._decode(self._inflated(held))
        self._touch(key, found)
        return found

    def __setitem__(self, key: Key, stored: Stored) -> None:
        if self._in_use.pop(key, None) is not stored:
            self._held[key] = stored
        packs = self._every or key.namespace
        if packs and self._dictionary:
            self._touch(key, stored)
        elif packs:
            self._learn(stored)

    def __delitem__(self, key: Key) -> None:
        del self._held[key]
        self._in_use.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[Key]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def _touch(self, key: Key, stored: Stored) -> None:
        self._in_use[key] = stored
        if len(self._in_use) > IN_USE:
            oldest, rests = next(iter(self._in_use.items()))
            del self._in_use[oldest]
            if not isinstance(self._held[oldest], bytes):
                self._held[oldest] = self._deflated(encoded(rests))

    def _learn(self, stored: Stored) -> None:
        self._samples.append(encoded(stored))
        if len(self._samples) == SAMPLES:
            # What is at the end is found with the shortest references: the longest, with all that others may have.
            self._samples.sort(key=lambda text: len(text))
            self._dictionary = b"".join(self._samples)[-_DICTIONARY:]
            self._samples.clear()

    def _deflated(self, text: bytes) -> bytes:
        packer = zlib.compressobj(
            1, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, self._dictionary
        )
        return packer.compress(text) + packer.flush()

    def _inflated(self, data: bytes) -> bytes:
        return zlib.decompressobj(-_WINDOW_BITS, self._dictionary).decompress(data)


def encoded(stored: Stored) -> bytes:
    return stored.raw if isinstance(stored, Own) else msgspec.json.encode(stored)
