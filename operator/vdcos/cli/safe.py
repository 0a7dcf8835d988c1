"""Text of others on its way to a terminal."""

import unicodedata

_LONGEST = 2000
"""Characters of one text; conditions of ours have 1,024 at most."""
_HARMFUL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode's categories of what moves, hides or reorders text: controls, formats (directions, zero widths), surrogates,
private use, unassigned, and separators of lines."""


def safe(text: object) -> str:
    """One line in which everything can be seen: blanks for breaks, and what could steer a terminal as an escape."""
    one_line = str(text).translate(_BREAKS)
    if len(one_line) > _LONGEST:
        one_line = one_line[:_LONGEST] + "…"
    if one_line.isascii() and one_line.isprintable():
        return one_line
    return "".join(_escaped(char) if unicodedata.category(char) in _HARMFUL else char for char in one_line)


_BREAKS = {ord(char): " " for char in "\t\n\r"}


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
