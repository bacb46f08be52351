"""How make lab starts JupyterLab. What it looks like then is in tests/browser/test_reading.py."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from jupyterlab_server.settings_utils import _get_overrides
from jupyterlab_server.workspaces_handler import WorkspacesManager

from diffnotes.book import lab


def test_the_folders_that_the_reader_names_are_kept():
    assert lab.environment({})["JUPYTER_CONFIG_PATH"] == str(lab.HERE)
    both = lab.environment({"JUPYTER_CONFIG_PATH": "/theirs", "HOME": "/home"})
    assert both == {"JUPYTER_CONFIG_PATH": f"{lab.HERE}{os.pathsep}/theirs", "HOME": "/home"}


def test_jupyterlab_finds_the_settings(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    assert "fetchNews" not in json.dumps(_get_overrides(str(tmp_path)))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", lab.environment({})["JUPYTER_CONFIG_PATH"])
    overrides, error = _get_overrides(str(tmp_path))
    assert not error
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_the_table_of_contents_is_open_the_first_time_and_then_what_the_reader_left(tmp_path: Path):
    lab.arguments(tmp_path)
    workspace = WorkspacesManager(str(tmp_path)).load("default")
    assert workspace["data"]["layout-restorer:data"]["left"]["current"] == "@jupyterlab/toc:plugin"
    (file,) = tmp_path.iterdir()
    file.write_text("left so")
    lab.arguments(tmp_path)
    assert file.read_text() == "left so"


def test_the_command_of_the_makefile_starts_jupyterlab(tmp_path: Path):
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    assert "python -m diffnotes.book.lab notebooks/00_start_here.ipynb" in makefile
    command = [sys.executable, "-m", "diffnotes.book.lab", "--version"]
    own = os.environ | {"XDG_DATA_HOME": str(tmp_path)}  # where the arrangement of the windows is kept
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, importlib.metadata.version("jupyterlab"))


def test_a_folder_of_the_readers_own_is_where_jupyterlab_starts(tmp_path: Path, monkeypatch):
    (tmp_path / "book").mkdir()
    monkeypatch.setattr(lab, "arguments", lambda: [])
    tool = tmp_path / "jupyterlab.py"
    tool.write_text("import sys\nopen('seen', 'w').write(' '.join(sys.argv[1:]))\nsys.exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert lab.start("one.ipynb", "--port=1", folder=tmp_path / "book") == 7
    assert (tmp_path / "book" / "seen").read_text() == "one.ipynb --port=1"


def test_ctrl_c_is_left_to_jupyterlab_and_is_no_failure(tmp_path: Path):
    asks = "import signal, sys\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(5))\nprint('up', flush=True)\nsignal.pause()"
    (tmp_path / "jupyterlab.py").write_text(asks)
    code = "import sys; from diffnotes.book import lab; lab.arguments = list; print('status', lab.start())"
    own = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "up\n"
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: both get it
        assert running.communicate()[0] == "status 0\n" and running.returncode == 0
