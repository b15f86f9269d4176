"""Takes docs/report.png, the first screen of a page: python docs/screenshot.py runs/demo/report.html.

Needs Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).with_name("report.png")
SIZE = {"width": 1100, "height": 690}


def main() -> None:
    report = Path(sys.argv[1]).resolve()
    chromium = os.environ.get("MOLERE_CHROMIUM") or shutil.which("chromium")
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(report.as_uri())
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
