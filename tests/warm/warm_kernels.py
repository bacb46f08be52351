"""A plugin of pytest: nbval's kernels are forked from one process that has torch, sympy and matplotlib behind it (zygote.py).

    PYTHONPATH=tests/warm python -m pytest -p warm_kernels --nbval-lax notebooks

A kernel starts in half a second in place of three. What a notebook or the package forgets to import could go unnoticed here,
where the zygote has imported it: the same notebooks run in kernels of the usual kind in tests/browser/test_every_notebook.py.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

CLIENT = Path(__file__).with_name("client.py")
FOLDER = "DIFFNOTES_WARM_KERNELS"  # for the processes of pytest-xdist, which share a zygote


def install(folder: Path, parent: int) -> None:
    """The kernel "warm" in folder/kernels; its zygote ends with the process `parent`."""
    command = [sys.executable, "-S", "-E", str(CLIENT), str(folder / "zygote"), str(parent), "-f", "{connection_file}"]
    spec = folder / "kernels" / "warm" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": command, "display_name": "warm", "language": "python"}), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the kernel, and make it known in the first process; macOS's libraries do not bear a fork after they are loaded."""
    if sys.platform != "linux":
        config.option.nbval_current_env = True
        return
    config.option.nbval_kernel_name = "warm"
    if FOLDER not in os.environ:
        folder = os.environ[FOLDER] = tempfile.mkdtemp(prefix="warm-")
        install(Path(folder), os.getpid())
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
