"""Charts as files, and as parts of a page: by vl-convert, which needs neither browser nor network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree import ElementTree

from molere_cli import ConfigError
from molere_cli.commands import harmless, replacing

if TYPE_CHECKING:
    import altair

AnyChart: TypeAlias = "altair.Chart | altair.LayerChart | altair.FacetChart | altair.VConcatChart"

FORMATS = ("pdf", "png", "svg")
PIXELS_PER_POINT = 2
SVG = "http://www.w3.org/2000/svg"
NEEDED = {"altair": "Altair", "vl_convert": "vl-convert", "jinja2": "Jinja2"}
INK = "currentColor"


def missing_extra(*modules: str) -> list[str]:
    """Names of those of `NEEDED`, by default of all, that are not installed."""
    return [NEEDED[module] for module in modules or NEEDED if find_spec(module) is None]


def check_extra(what: str, *modules: str) -> None:
    """Refuse `what`, a flag or a command, where a module that it needs is not installed.

    Raises:
        ConfigError: it is not.
    """
    if missing := missing_extra(*modules):
        raise ConfigError(
            f"{what} needs {' and '.join(missing)}; install what it needs with `pip install 'molere[report]'`"
        )


def check_chart_path(path: Path) -> str:
    """The format of a chart's file, by its ending.

    Raises:
        ConfigError: it is none, or what draws charts is not installed.
    """
    image_format = path.suffix[1:].lower()
    if image_format not in FORMATS:
        raise ConfigError(f"cannot draw {path}: its ending must be one of {', '.join(FORMATS)}")
    check_extra("drawing a chart", "altair", "vl_convert")
    return image_format


def write_chart(chart: AnyChart, path: Path) -> None:
    """Write a chart in the format of the path's ending, black on white.

    Raises:
        ConfigError: the ending is no image format, or what draws charts is not installed.
        WriteError: the system refuses.
    """
    import vl_convert

    image_format = check_chart_path(path)
    specification = _with_theme(chart, ink="black", ground="white")
    if image_format == "svg":
        content = vl_convert.vegalite_to_svg(specification).encode()
    elif image_format == "png":
        content = vl_convert.vegalite_to_png(specification, scale=PIXELS_PER_POINT)
    else:
        content = vl_convert.vegalite_to_pdf(specification)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def as_svg(chart: AnyChart, *, title: str, description: str) -> str:
    """A chart as an `svg` element for a page, in the colour of the text around it, without style, script or
    address, one picture to a screen reader; it has a width alone, so that a page can make it smaller."""
    import vl_convert

    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(_with_theme(chart, ink=INK, ground=None)))  # noqa: S314 - ours
    ElementTree.register_namespace("", SVG)
    for name in ("height", "class"):
        root.attrib.pop(name, None)
    for element in root.iter():
        for name in [name for name in element.attrib if name == "role" or name.startswith("aria-")]:
            del element.attrib[name]
    root.attrib |= {"role": "img", "aria-label": harmless(f"{title}. {description}")}
    root.insert(0, _titled(harmless(title)))
    return ElementTree.tostring(root, encoding="unicode")


def _titled(title: str) -> ElementTree.Element:
    element = ElementTree.Element(f"{{{SVG}}}title")
    element.text = title
    return element


def _with_theme(chart: AnyChart, *, ink: str, ground: str | None) -> dict[str, Any]:
    axis = dict.fromkeys(("labelColor", "titleColor", "tickColor", "domainColor", "gridColor"), ink)
    themed = (
        chart.configure(background=ground or "transparent", font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**axis, gridOpacity=0.15, titleFontWeight="normal")
        .configure_legend(
            labelColor=ink, labelLimit=260, orient="bottom", direction="vertical", symbolSize=80
        )
        .configure_title(color=ink, anchor="start")
        .configure_rule(color=ink)
        .configure_text(color=ink)
    )
    specification: dict[str, Any] = _replaced(themed.to_dict(), ink)
    return specification


def _replaced(value: Any, ink: str) -> Any:
    """The specification with `ink` for what a chart leaves to its surroundings; data are left alone."""
    if isinstance(value, dict):
        return {
            key: ink if key in {"color", "fill", "stroke"} and found == INK else _replaced(found, ink)
            for key, found in value.items()
        }
    return [_replaced(each, ink) for each in value] if isinstance(value, list) else value
