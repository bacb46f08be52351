"""What a reader has solved, kept in the user's data folder. Keeping it never gets into the way of a check."""

import json
import os
import tempfile
from pathlib import Path

import platformdirs

FILE_NAME = "exercises-2nd-edition.json"  # the first edition counted its chapters otherwise


def file() -> Path:
    """The file that is kept: in the folder that DIFFNOTES_PROGRESS names, else in the user's data folder."""
    folder = os.environ.get("DIFFNOTES_PROGRESS") or platformdirs.user_data_path("diffnotes")
    return Path(folder) / FILE_NAME


def read() -> dict[str, str]:
    """What is kept, "right" or "wrong" for each exercise tried; empty if there is no file, or none that can be read."""
    try:
        kept = json.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {tag: state for tag, state in kept.items() if state in ("right", "wrong")} if isinstance(kept, dict) else {}


def keep(tag: str, state: str) -> str:
    """Note that an exercise was answered; one that is solved stays solved. Returns why it could not be kept, or "".

    The file is written anew and then put in its place, so that no one ever finds half of it."""
    kept, path = read(), file()
    if kept.get(tag) in ("right", state):
        return ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / FILE_NAME
            new.write_text(json.dumps(kept | {tag: state}, indent=1, sort_keys=True), encoding="utf-8")
            os.replace(new, path)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
