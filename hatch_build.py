"""What the wheel and the sdist have beyond the package: the notebooks as sources, without their outputs, and the benchmarks'
page, whose numbers the chapters show. In the wheel both lie in diffnotes/book/."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BENCHMARKS = ("docs/benchmarks.md", "docs/benchmarks")


class Book(BuildHookInterface):
    """Adds them to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the notebooks without outputs into a folder of their own, and take them from there."""
        if version == "editable":
            return  # they are read where they lie
        within = "" if self.target_name == "sdist" else "diffnotes/book/"
        included = build_data["force_include"]
        self.sources = tempfile.TemporaryDirectory()
        for path in sorted(Path(self.root, "notebooks").glob("*.ipynb")):
            source = Path(self.sources.name, path.name)
            source.write_text(without_outputs(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
            included[str(source)] = f"{within}notebooks/{path.name}"
        for name in BENCHMARKS:
            included[str(Path(self.root, name))] = f"{within}{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        if version != "editable":
            self.sources.cleanup()


def without_outputs(text: str) -> str:
    """A notebook's JSON without its outputs, the numbers of its runs, and the record of how it was run."""
    notebook = json.loads(text)
    notebook["metadata"].pop("diffnotes", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
