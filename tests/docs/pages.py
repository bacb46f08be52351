"""A page of the built site, as the tests look at it."""

import posixpath
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote


class Page(HTMLParser):
    """A page's ids, its links, what it loads, and the alternative texts of its pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.alts: list[str | None] = []
        self.classes: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tests ask for."""
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(given["id"] or "")
        self.classes += (given.get("class") or "").split()
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        if tag == "img":
            self.alts.append(given.get("alt"))
        if given.get("src"):
            self.loaded.append(given["src"] or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.loaded.append(given["href"] or "")


def is_elsewhere(address: str) -> bool:
    """Whether an address leads out of the site."""
    return "://" in address or address.startswith(("//", "mailto:"))


def target(page: str, link: str) -> tuple[str, str]:
    """Where a link within the site leads: (file, fragment)."""
    address, _, fragment = link.partition("#")
    path = (
        posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(address.partition("?")[0])))
        if address
        else page
    )
    return path, unquote(fragment)
