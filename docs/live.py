"""The network in the page: what docs/static/live needs beside its scripts is made and put into the site. That is the network as
ONNX (live/export.py) and ONNX Runtime Web, which npm fetches, pinned with its integrity hash in live/package-lock.json.

Without npm the site is built with pictures where the network would draw, and says what is missing; on CI that is an error."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.util import logging

DOCS = Path(__file__).parent
RUNTIME = DOCS / "live" / "node_modules" / "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
FETCHED = ("model.json", "model.onnx", "ort-wasm-simd-threaded.wasm")  # with a progress bar
BETWEEN = (
    "Two digits, a and b: draw them with mouse or finger, or let the network draw one. DDIM inversion takes each to its "
    "noise, (8.15) leads from the one noise to the other, and DDIM draws nine points of that path, with 30 steps up and 30 "
    "down. No label is given, neither up nor down: what stands between the two is the network's own choice. Few images lie "
    "between two different digits, so much of the change falls into a short stretch of u: look for it with the slider."
)
# The explorers of the chapters that have a live one beside them on their page: (chapter, how the line that shows it begins)
BESIDE = {
    ("00_start_here", "explorers.film("): '<div data-live="draw" data-digits="2026"></div>',
    ("00_start_here", "explorers.draw("): '<div data-live="draw" data-digits="3333"></div>',
    (
        "07_ddpm_sampling",
        "explorers.film(",
    ): '<div data-live="draw" data-digits="07" data-solver="ddpm" data-steps="50"></div>',
    ("08_ddim", "explorers.pictures("): f'<div data-live="between" data-intro="{BETWEEN}"></div>',
    ("08_ddim", "explorers.round_trip("): '<div data-live="yours"></div>',
    ("09_guidance", "explorers.guidance("): '<div data-live="draw" data-digits="33333333"></div>',
    ("22_applications", "explorers.answers("): '<div data-live="yours"></div>',
}
MISSING = (
    "The pages are built without the network that runs in them: {}. With npm, make docs fetches the runtime; the weights are "
    "exported with pip install -c constraints.txt -e '.[docs]'"
)


def missing() -> str:
    """What is not there, in words; nothing if all is."""
    if not all((RUNTIME / "dist" / name).exists() for name in RUNTIME_FILES):
        return "ONNX Runtime Web is not in docs/live/node_modules"
    if importlib.util.find_spec("onnxscript") is None:
        return "onnx and onnxscript are not installed"
    return ""


def beside(docname: str, source: str) -> str:
    """The live explorer for the page of a chapter's cell, if it has one and the site can run it."""
    if missing():
        return ""
    last = source.rstrip().rpartition("\n")[2]
    found = (html for (chapter, call), html in BESIDE.items() if docname.endswith(chapter) and last.startswith(call))
    return next(found, "")


def live(app: Sphinx) -> None:
    """Export the network where it has changed, and add it and the runtime to the site."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        raise ConfigError(MISSING.format(reason))
    if reason:
        logging.getLogger(__name__).info(MISSING.format(reason))
        return
    package = DOCS.parents[0] / "diffnotes"
    sources = [
        DOCS / "live" / "export.py",
        package / "models" / "unet.py",
        package / "training" / "weights" / "mnist-small.safetensors",
    ]
    name = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    kept = DOCS / "_build" / "live"
    folder = kept / name / "live"
    if not (folder / "sizes.json").exists():
        shutil.rmtree(kept, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, DOCS / "live" / "export.py", folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(f"The network could not be exported:\n{done.stderr[-2000:]}")
        for file in RUNTIME_FILES:
            shutil.copyfile(RUNTIME / "dist" / file, folder / file)
        sizes = {file: (folder / file).stat().st_size for file in FETCHED}
        (folder / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")
    app.config.html_static_path.append(str(folder.parent))
    app.add_js_file("live/page.js", type="module")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", live)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
