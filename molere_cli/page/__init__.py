"""The page that goes to a colleague: did it help, for whom, at what cost, and on which images?"""

from molere_cli.page.page_content import Page, build_page
from molere_cli.page.render import render_page

__all__ = ["Page", "build_page", "render_page"]
