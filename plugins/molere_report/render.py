"""The page as HTML: one file without any address, script and style by their hashes, all text escaped."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from urllib.parse import quote

from molere_cli.commands import harmless, json_text
from molere_report.page_content import Page

MOST_SWITCHES = 12
LINKED_JSON = 2_000_000
"""Characters of JSON up to which the page has a link that saves it."""


def render_page(page: Page) -> str:
    """A whole HTML document."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("molere_report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
    )
    style, script = _resource("style.css") + _switches(), _resource("script.js")
    numbers = json_text(page.numbers)
    return environment.get_template("template.html").render(
        page=page,
        policy=_policy(style, script),
        style=style,
        script=script,
        numbers=_for_script(numbers),
        json_link="data:application/json;charset=utf-8," + quote(numbers)
        if len(numbers) <= LINKED_JSON
        else None,
    )


def _finalized(value: object) -> object:
    """Control characters, and those that turn text around, as a terminal shows them; markup is left alone."""
    return harmless(value) if type(value) is str else value


def _resource(name: str) -> str:
    return (files("molere_report") / name).read_text(encoding="utf-8")


def _switches() -> str:
    """Which panel is seen, by the radio button that is checked."""
    rules = [
        f".study:has(.choice-{number}:checked) .panel-{number} {{ display: block; }}"
        for number in range(1, MOST_SWITCHES + 1)
    ]
    return "\n".join(["", *rules, ""])


def _policy(style: str, script: str) -> str:
    allowed = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _for_script(text: str) -> str:
    """JSON that no parser of HTML takes for the end of its element."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
