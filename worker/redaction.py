"""URLs as they may be shown: whoever reads a log or an error sees no credentials.

A URL holds secrets in more places than its password: a signed link in its query, a token in its
user name. And of one that can't be read, any part may be half of a password. So a URL is never
printed as it came, but as `redact_url` renders it.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "…"

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST: Final = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
# fsspec chains URLs: zip://inside.csv::https://host/outside.zip
_CHAIN: Final = re.compile(r"::(?![0-9A-Fa-f:.]*\])")
_LINK: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://.*)?|/[^@]*", re.DOTALL)
# In running text: up to an @ even over blanks, for a password may hold some; else up to a blank, or
# to the end of the quotation that begins just before it. A query may hold the other signs.
_QUOTED_USER: Final = r"(?:[^/@\n\"]*@)?"
_IN_TEXT: Final = re.compile(
    "|".join(
        rf"{before}[A-Za-z][A-Za-z0-9+.-]*://{rest}"
        for before, rest in (
            (r"(?<=\")", rf"{_QUOTED_USER}(?:\\.|[^\s\"\\])*"),
            (r"(?<=')", rf"{_QUOTED_USER}(?:\\.|[^\s'\\])*"),
            (r"(?<=<)", rf"{_QUOTED_USER}[^\s>]*"),
            ("", r"(?:[^/@\n]*@)?\S*"),
        )
    )
)
_PUNCTUATION: Final = ":;,.)"


def redact_url(url: str) -> str:
    """Returns a URL without user, password, query and fragment; a path is returned as it is.

    Of a URL that can't be read no more than its scheme is left.
    """
    if "://" not in url:
        return url
    links = _CHAIN.split(url)
    if len(links) > 1:
        if not all(_LINK.fullmatch(link) for link in links):
            return _unreadable(url)
        return "::".join(redact_url(link) for link in links)
    scheme, _, rest = url.partition("://")
    head, mark = rest, ""
    if found := re.search(r"[?#]", rest):
        head, mark = rest[: found.start()], found[0]
        if "@" in rest[found.start() :]:
            # Is that mark a part of a password, or the @ one of a query? Nobody can tell.
            return _unreadable(url)
    host, slash, path = head.rpartition("@")[2].partition("/")
    if not _SCHEME.fullmatch(scheme) or (host and not _HOST.fullmatch(host)):
        return _unreadable(url)
    return f"{scheme}://{host}{slash}{path}{mark}{HIDDEN if mark else ''}"


def redact_text(text: str) -> str:
    """Returns a text in which every URL is as `redact_url` renders it.

    It can be written: a file's name that is not UTF-8 holds what no JSON takes.
    """
    if not text.isascii():
        text = text.encode(errors="backslashreplace").decode()
    return _IN_TEXT.sub(_redact_found, text) if "://" in text else text


def _redact_found(found: re.Match[str]) -> str:
    url = found[0].rstrip(_PUNCTUATION)
    return redact_url(url) + found[0][len(url) :]


def _unreadable(url: str) -> str:
    scheme = url.partition("://")[0]
    return f"{scheme if _SCHEME.fullmatch(scheme) else ''}://{HIDDEN}"
