"""One build of the HTML edition for all its tests, also where two processes run them."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from build_edition import build
from filelock import FileLock
from pages import Page


@dataclass(frozen=True)
class Site:
    """The built pages by their address, such as "notebooks/06_elbo.html", and what Sphinx said while it built them."""

    folder: Path
    said: str
    pages: dict[str, Page]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The HTML edition."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder, said = folder / "edition", folder / "edition.txt"
    with FileLock(f"{folder}.lock"):
        if not said.exists():
            said.write_text(build(folder), encoding="utf-8")
    html = folder / "html"
    paths = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    return Site(
        html, said.read_text(encoding="utf-8"), {path.relative_to(html).as_posix(): Page(path) for path in paths}
    )
