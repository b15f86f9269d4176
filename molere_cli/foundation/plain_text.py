"""Text as it can be shown: it steers no terminal, and is in characters that the reader's encoding has."""

from __future__ import annotations

import codecs
import re
import unicodedata

NARROW = "molere.narrow"
"""An error handler for encodings that lack a character: what is nearest to it in ASCII."""

# C0 and C1 controls (line breaks and ANSI escapes among them), separators of lines and paragraphs, what turns
# the direction of writing around, and surrogates, which a file name has for bytes that are no UTF-8.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SUPERSCRIPTS = re.compile("[⁰¹²³⁴-⁹]+")
NEAREST = {
    "±": "+/-",
    "→": "->",
    "\u2212": "-",  # the minus sign
    "\u00d7": "x",  # the multiplication sign
    "\u2013": "-",
    "\u2014": "--",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "•": "*",
    "ß": "ss",
    "æ": "ae",
    "ø": "o",
    "ł": "l",
    "─": "-",
    "━": "-",
    "│": "|",
    "┃": "|",
}


def harmless(text: str) -> str:
    """The text with control characters and lone surrogates as escapes (`\\x1b`); what else it says stays."""
    return STEERING.sub(lambda found: _escaped(found[0]), text)


def in_encoding(text: str, encoding: str) -> str:
    """The text in characters that `encoding` has: `±` as `+/-`, `é` as `e`, `¹²` as `^12`, else `\\u732b`."""
    return text.encode(encoding, NARROW).decode(encoding)


def _narrowed(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = SUPERSCRIPTS.sub(
        lambda found: "^" + unicodedata.normalize("NFKD", found[0]), error.object[error.start : error.end]
    )
    return "".join(_nearest(character) for character in lacking), error.end


def _nearest(character: str) -> str:
    if character in NEAREST:
        return NEAREST[character]
    if "\u2500" <= character <= "\u257f":  # corners and crossings of boxes
        return "+"
    decomposed = unicodedata.normalize("NFKD", character)
    # Of a letter with its accent, given as two characters, the letter has been encoded already.
    if unicodedata.combining(character):
        return ""
    return "".join(part for part in decomposed if part.isascii()) or _escaped(character)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


codecs.register_error(NARROW, _narrowed)
