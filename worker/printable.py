"""Text that others wrote, as a terminal may show it."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Returns a text with a mark in place of each character that could move a terminal's cursor.

    Args:
        text: of others.
        keep: characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else "�" for each in text)
