"""How numbers stand in texts for people."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "", *, grouped: bool = False) -> str:
    """Returns a number with its noun: `1 model`, `2 models`.

    Args:
        number: how many there are.
        noun: of one.
        plural: of any other number, where it is not the noun with an s.
        grouped: whether thousands are set apart, as in `12,000 items`.
    """
    said = f"{number:,}" if grouped else str(number)
    return f"{said} {noun if number == 1 else plural or noun + 's'}"
