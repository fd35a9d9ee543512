"""HTML that is well formed and escaped because nothing else can be written."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

_VOID: Final = frozenset({"br", "hr", "link", "meta"})
_CODE: Final = re.compile(r"`([^`]+)`")


class Html(str):
    """HTML; every other string is text and is escaped where it is put into some."""

    __slots__ = ()


Content: TypeAlias = "str | Html | Iterable[Content]"


def tag(name: str, /, *content: Content, **attributes: str) -> Html:
    """Returns an element; attributes are written as `class_` and `aria_label`."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    if name in _VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(content)}</{name}>")


def join(content: Content, separator: str = "") -> Html:
    """Returns content one after the other."""
    if isinstance(content, Html):
        return content
    if isinstance(content, str):
        return Html(html.escape(content, quote=False))
    return Html(html.escape(separator, quote=False).join(join(each) for each in content))


def prose(text: str) -> Html:
    """Returns text in which `code` stands between backticks."""
    parts = _CODE.split(text)
    return join(tag("code", part) if at % 2 else part for at, part in enumerate(parts))


def paragraphs(text: str) -> Html:
    """Returns text whose paragraphs are parted by empty lines."""
    return join(tag("p", prose(" ".join(each.split()))) for each in text.split("\n\n") if each)


def table(
    caption: str, heads: Iterable[str], rows: Iterable[Iterable[Content]], *, under: str = ""
) -> Html:
    """Returns a table; the first cell of each row is its header.

    Args:
        caption: what it shows.
        heads: of the columns.
        rows: cells.
        under: what the table is of, where a heading already says the caption to those who see.
    """
    head = tag("tr", [tag("th", each, scope="col") for each in heads])
    body = []
    for first, *others in rows:
        body.append(tag("tr", tag("th", first, scope="row"), [tag("td", each) for each in others]))
    named = (
        tag("caption", f"{caption} of {under}", class_="unseen")
        if under
        else tag("caption", caption)
    )
    return tag("table", named, tag("thead", head), tag("tbody", body))
