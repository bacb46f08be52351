"""JupyterLab as a place to read: a narrow column, quiet headings, the table of contents beside the text, no news. All of it is
passed when JupyterLab is started; the reader's own settings are not touched, and win where they say otherwise."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

HERE = Path(__file__).parent
FIRST_WORKSPACE = "default-37a8.jupyterlab-workspace"  # JupyterLab's name for the workspace called default


def environment(given: dict[str, str]) -> dict[str, str]:
    """`given` and the folder with the book's settings, before those that JUPYTER_CONFIG_PATH has already."""
    folders = [str(HERE), *filter(None, [given.get("JUPYTER_CONFIG_PATH")])]
    return given | {"JUPYTER_CONFIG_PATH": os.pathsep.join(folders)}


def arguments(workspaces: Path | None = None) -> list[str]:
    """What JupyterLab is started with. It keeps the arrangement of its windows in the folder `workspaces`, in the user's data
    unless given; the first time, the table of contents is open."""
    workspaces = workspaces or platformdirs.user_data_path("diffnotes") / "workspaces"
    workspaces.mkdir(parents=True, exist_ok=True)
    if not (workspaces / FIRST_WORKSPACE).exists():
        shutil.copyfile(HERE / "workspace.json", workspaces / FIRST_WORKSPACE)
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [
        "--custom-css",
        f"--ServerApp.tornado_settings=static_custom_path={HERE / 'custom'}",
        f"--LabApp.workspaces_dir={workspaces}",
        *as_root,
    ]


def start(*more: str, folder: Path | None = None) -> int:
    """Start JupyterLab in `folder`, the current one unless given, with `more` of its arguments, and wait for its end; its
    exit status, or 0 where Ctrl-C ended it."""
    command = [sys.executable, "-m", "jupyterlab", *arguments(), *more]
    interrupted = False
    with subprocess.Popen(command, env=environment(dict(os.environ)), cwd=folder) as running:
        while True:
            try:
                status = running.wait()
                return 0 if interrupted else status
            except KeyboardInterrupt:
                interrupted = True  # JupyterLab has got it too, and asks whether it is meant
