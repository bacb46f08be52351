"""A kernel out of the zygote is a kernel like any: it can be interrupted, restarted and killed, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from warm_kernels import CLIENT, FOLDER, install

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
Ask = Callable[[str], str]


def is_zygote(process: psutil.Process, folder: Path) -> bool:
    """Whether the process is the zygote of this kernelspec, or a kernel out of it, which has its command line."""
    try:
        return {str(folder / "zygote"), str(CLIENT.with_name("zygote.py"))} <= {*process.cmdline()}
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the kernelspec stands; its zygote ends with a process that this fixture ends."""
    folder = tmp_path_factory.mktemp("w")
    parent = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    install(folder, parent.pid)
    yield folder
    parent.communicate(b"\n")
    zygotes = [process for process in psutil.process_iter() if is_zygote(process, folder)]
    assert psutil.wait_procs(zygotes, 30)[1] == []


@pytest.fixture
def manager(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KernelManager]:
    """A kernel that runs in tmp_path, with a name of its own in the environment."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    manager = KernelManager(kernel_name="warm", kernel_spec_manager=specs)
    manager.start_kernel(cwd=str(tmp_path), env=os.environ | {"OWN": tmp_path.name})
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.fixture
def client(manager: KernelManager) -> Iterator[BlockingKernelClient]:
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(60)
    yield client
    client.stop_channels()


@pytest.fixture
def ask(client: BlockingKernelClient) -> Ask:
    """What an expression is in the kernel."""

    def ask(expression: str) -> str:
        reply = client.execute("", user_expressions={"asked": expression}, reply=True, timeout=60)
        asked = reply["content"]["user_expressions"]["asked"]
        return asked["data"]["text/plain"] if asked["status"] == "ok" else asked["ename"]

    return ask


def gone(pid: int) -> bool:
    """Whether the process ends within a while."""
    try:
        psutil.Process(pid).wait(30)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def test_it_is_a_fresh_process_with_its_own_folder_and_environment(ask: Ask, tmp_path: Path):
    assert ask("__import__('os').getcwd()") == repr(str(tmp_path))
    assert ask("__import__('os').environ['OWN']") == repr(tmp_path.name)
    assert ask("'torch' in dir()") == "False" and ask("torch") == "NameError"
    modules = "{name.split('.')[0] for name in __import__('sys').modules}"
    assert (
        ask(f"{{'torch', 'sympy', 'matplotlib'}} <= {modules}") == "True"
        and ask(f"'diffnotes' in {modules}") == "False"
    )
    assert ask("(lambda t: (t(2) @ t(2)).item())(__import__('torch').ones)") == "2.0"


def test_the_zygote_starts_once(ask: Ask, folder: Path):
    own = [process for process in psutil.process_iter() if is_zygote(process, folder)]
    (zygote,) = (process for process in own if process.ppid() not in {other.pid for other in own})  # not its child
    assert int(ask("__import__('os').getppid()")) == zygote.pid


def test_an_interrupt_ends_the_cell_and_not_the_kernel(ask: Ask, client, manager: KernelManager):
    number = client.execute("import time\nwhile True: time.sleep(0.01)", stop_on_error=False)
    time.sleep(0.5)
    manager.interrupt_kernel()
    while (reply := client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != number:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt" and ask("1 + 1") == "2"


def test_a_restart_gives_another_process_without_the_old_names(ask: Ask, client, manager: KernelManager):
    client.execute("mine = 1", reply=True, timeout=30)
    before = int(ask("__import__('os').getpid()"))
    manager.restart_kernel(now=False)
    client.wait_for_ready(60)
    assert ask("mine") == "NameError" and int(ask("__import__('os').getpid()")) != before and gone(before)


def test_the_kernel_dies_with_its_client_also_of_kill(ask: Ask, manager: KernelManager):
    kernel = int(ask("__import__('os').getpid()"))
    assert manager.provisioner.pid != kernel
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    assert gone(kernel)


def test_the_client_dies_as_its_kernel_does(ask: Ask, manager: KernelManager):
    kernel = int(ask("__import__('os').getpid()"))
    os.kill(kernel, signal.SIGKILL)
    assert manager.provisioner.process.wait(30) == -signal.SIGKILL


def test_nbval_runs_notebooks_in_such_kernels_and_a_missing_import_fails(folder: Path, tmp_path: Path):
    nested = "import psutil\nassert any('zygote' in word for word in psutil.Process().parent().cmdline())"
    for name, source in (("right", nested), ("wrong", "torch.ones(2)")):
        cell = {
            "cell_type": "code",
            "source": source,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "id": "a",
        }
        book = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(book))
    own = {
        FOLDER: str(folder),
        "JUPYTER_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join([str(CLIENT.parent), *sys.path]),
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "warm_kernels", "--nbval-lax", "."]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout and "name 'torch' is not defined" in done.stdout
