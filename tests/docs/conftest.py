"""One build of the HTML edition for all its tests, also where two processes run them."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from build_edition import edition
from pages import Page


@dataclass(frozen=True)
class Site:
    """The built pages by their address, such as "notebooks/03_elbo.html", and what Sphinx said while it built them."""

    folder: Path
    said: str
    pages: dict[str, Page]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The HTML edition."""
    html, said = edition(tmp_path_factory)
    paths = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    return Site(html, said, {path.relative_to(html).as_posix(): Page(path) for path in paths})
