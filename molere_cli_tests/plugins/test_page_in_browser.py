"""The page in a browser: nothing is fetched, nothing goes wrong, and it works for people in different ways.

Needs Chromium (`apt-get install chromium`); without one the tests skip and say so.
"""

from __future__ import annotations

import csv
import os
import shutil

import pytest
from molere_report.suspects import find_suspects

from molere_cli.runs.run_directory import RunDir
from molere_cli_tests import pages
from molere_cli_tests.pages import page_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A root user's Chromium needs it, and the page is ours.
ARGUMENTS = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("MOLERE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: the page has not been looked at in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["with_groups", "hostile", "noisy"])
def runs(request, tmp_path_factory):
    return getattr(pages, request.param)(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def path(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    page_of(runs, out)
    return out


@pytest.fixture
def opened(browser, path):
    """Opens the page; whatever it says on the console, fetches, or fails at is an error in the end."""
    contexts, problems = [], []

    def open_page(*, width=1200, javascript=True, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, java_script_enabled=javascript, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                problems.append(f"request: {request.url[:80]}") if is_outside(request.url, path) else None
            ),
        )
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def is_outside(url: str, path) -> bool:
    return not url.startswith(("data:", path.as_uri()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_load_and_nothing_else_is_fetched(opened, scheme):
    page = opened(color_scheme=scheme)
    images = page.locator("img")
    assert images.count() > 10
    loaded = page.evaluate("Array.from(document.images, each => each.complete && each.naturalWidth > 0)")
    assert all(loaded)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(ground.removeprefix("rgb(").split(",")[0])
    assert red > 200 if scheme == "light" else red < 60


@pytest.mark.parametrize("width", [320, 375, 768])
def test_nothing_is_wider_than_a_phone(opened, width):
    page = opened(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "width"), [("light", 375), ("dark", 1200)])
def test_axe_finds_nothing(opened, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(color_scheme=scheme, width=width, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    found = Axe().run(page).response
    violations = [
        (each["id"], each["impact"], [node["html"][:120] for node in each["nodes"][:3]])
        for each in found["violations"]
    ]
    assert violations == [] and len(found["passes"]) > 30


def test_a_table_sorts_by_a_button_of_its_heading(opened):
    page = opened()
    table = page.locator("#training table").last
    heading = table.locator("thead th").nth(1)
    button = heading.locator("button")

    def column():
        return [float(text) for text in table.locator("tbody tr td:nth-child(2)").all_inner_texts()]

    before = column()
    assert len(before) > 1 and heading.get_attribute("aria-sort") == "none"
    button.focus()
    page.keyboard.press("Enter")
    assert (column(), heading.get_attribute("aria-sort")) == (sorted(before), "ascending")
    button.click()
    assert (column(), heading.get_attribute("aria-sort")) == (sorted(before, reverse=True), "descending")


def test_a_class_alone_can_be_looked_at(opened):
    page = opened()
    select = page.locator("#hard select").first
    names = select.locator("option").all_inner_texts()
    assert names[0] == "all" and len(names) > 2
    select.select_option(label=names[2])
    seen = page.locator("#hard .filtered .gallery:visible h4").all_inner_texts()
    assert seen == [names[2]]
    select.select_option(label="all")
    assert page.locator("#hard .filtered .gallery:visible").count() == len(names) - 1


@pytest.mark.parametrize("javascript", [True, False])
def test_test_sets_are_switched_without_a_script(opened, javascript):
    page = opened(javascript=javascript)
    choices = page.locator("#help input[type=radio]")
    if choices.count() == 0:
        assert page.locator("#help table:visible").count() == 1
        return
    captions = []
    for number in range(choices.count()):
        choices.nth(number).check()
        [caption] = page.locator("#help table:visible caption").all_inner_texts()
        captions.append(caption)
    assert len(set(captions)) == choices.count()


def test_without_a_script_all_is_there(opened):
    plain, scripted = opened(javascript=False), opened()
    assert plain.locator("th button").count() == 0 < scripted.locator("th button").count()
    for selector in ("table", "img", "svg", "h2"):
        assert plain.locator(selector).count() == scripted.locator(selector).count() > 0


def test_on_paper_nothing_is_folded_or_dark(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav:visible").count() == 0
    panels = page.locator(".panels > div")
    assert all(panels.nth(number).is_visible() for number in range(panels.count()))
    assert page.pdf()[:4] == b"%PDF"


def test_the_file_of_suspects_is_saved_with_the_right_rows(opened, runs, tmp_path):
    page = opened(accept_downloads=True)
    link = page.locator("a[download='suspects.csv']")
    erm = next(path for path in sorted(runs.iterdir()) if "-erm-" in path.name)
    lrw = next(path for path in sorted(runs.iterdir()) if "-lrw-" in path.name)
    found = find_suspects(RunDir(erm), RunDir(lrw) if lrw.name[:10] == "digits-lrw" else None)
    if link.count() == 0:
        assert not found.examples
        return
    with page.expect_download() as waited:
        link.click()
    waited.value.save_as(tmp_path / "suspects.csv")
    with open(tmp_path / "suspects.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == [each.index for each in found.examples]
    assert [row["predicted_label"] for row in rows] == [each.predicted_label for each in found.examples]


def test_its_numbers_are_saved_as_json(opened, tmp_path):
    import json

    page = opened(accept_downloads=True)
    with page.expect_download() as waited:
        page.locator("a[download='molere-report.json']").click()
    waited.value.save_as(tmp_path / "numbers.json")
    saved = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert saved == json.loads(page.locator("#molere-json").inner_text())
