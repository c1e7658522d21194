"""Text on its way to a person: bounded, and without what a terminal would obey. Imports nothing."""

from __future__ import annotations

_OPEN, _CLOSED = "([{", ")]}"


def printable(text: str) -> str:
    """Returns `text` with every character that is not printable, except line ends and tabs, as an escape such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(one if one in "\n\t" or one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def shortened(text: str, longest: int = 80) -> str:
    """Returns `text`, cut in the middle to at most `longest` characters."""
    if len(text) <= longest:
        return text
    tail = longest // 4
    return f"{text[: longest - tail - 5]} ... {text[-tail:]}"


def bounded(message: str, lines: int = 12, width: int = 600) -> str:
    """Returns a message with at most `lines` lines of at most `width` characters, and says how many lines it left out."""
    given = message.splitlines() or [""]
    kept = [shortened(line, width) for line in given[:lines]]
    return "\n".join([*kept, *([f"... and {len(given) - lines} more"] if len(given) > lines else [])])


def separated(text: str) -> list[str]:
    """Splits at commas. One before a space, in quotes or in brackets belongs to the value."""
    parts, depth, quote = [""], 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and (not parts[-1].strip() or depth):  # in the middle of words it is an apostrophe
            quote = character
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSED:
            depth -= 1
        elif character == "," and depth <= 0 and not text[place + 1 : place + 2].isspace():
            parts.append("")
            continue
        parts[-1] += character
    return parts
