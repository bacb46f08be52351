"""A process that has the slow imports behind it and forks kernels: python zygote.py SOCKET PID. It ends with the process PID.

A client (client.py) sends its words, environment, folder and the files 0, 1 and 2; the child becomes ipykernel_launcher with
them. The client is told the child's number and, in the end, its exit status; a child whose client is gone is killed.
Nothing of diffnotes is imported here, and no thread is started: both are the kernels' own affair.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from typing import Any

SLOW = (
    *("torch", "sympy", "matplotlib.figure", "matplotlib.backends.backend_agg", "scipy.stats", "sklearn.datasets"),
    *("accelerate", "safetensors.torch", "ipywidgets", "ipykernel.kernelapp", "ipykernel.ipkernel"),
)
LOOK = 1.0  # seconds between two looks whether PID is still there


def warm_up() -> None:
    """Import what takes long, as in a kernel that has just started."""
    os.environ.pop("JPY_PARENT_PID", None)  # ipykernel reads it when it is imported
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for name in SLOW:
        importlib.import_module(name)
    threads = threading.enumerate()
    assert len(threads) == 1, threads  # a lock that another one holds would stay shut in a child
    gc.collect()
    gc.freeze()  # the children share these pages


def there(pid: int) -> bool:
    """Whether the process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a client asks for, in a line of JSON, and its files."""
    words, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not words.endswith(b"\n"):
        words += connection.recv(1 << 20) or b"\n"
    return json.loads(words), files


def serve(path: str, parent: int) -> dict[str, Any] | None:
    """Fork a child for each client. In a child: what its client asks for. In the zygote, when `parent` is gone: None."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ends, warn_on_full_buffer=False)
    clients: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as ready:
        for file in (listener, ended):
            ready.register(file, selectors.EVENT_READ)
        while there(parent):
            for key, _ in ready.select(LOOK):
                if key.fileobj == listener:
                    connection, _ = listener.accept()
                    request, files = received(connection)
                    pid = os.fork()
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        os.setsid()
                        for number, file in enumerate(files):
                            os.dup2(file, number)
                        for file in (*files, ended, ends, listener, connection, *clients.values()):
                            os.close(file if isinstance(file, int) else file.detach())
                        return request
                    for file in files:
                        os.close(file)
                    clients[pid] = connection
                    ready.register(connection, selectors.EVENT_READ, pid)
                    connection.sendall(f"{pid}\n".encode())
                elif key.fileobj == ended:
                    os.read(ended, 1 << 10)
                elif key.data in clients:  # a client says nothing more: it is gone
                    os.kill(key.data, signal.SIGKILL)
                    ready.unregister(key.fileobj)
            while clients:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                connection = clients.pop(pid)
                with contextlib.suppress(KeyError):
                    ready.unregister(connection)
                with contextlib.suppress(OSError), connection:
                    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    for pid in clients:
        os.kill(pid, signal.SIGKILL)
    return None


if __name__ == "__main__":
    warm_up()
    request = serve(sys.argv[1], int(sys.argv[2]))
    if request is not None:
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = ["ipykernel_launcher", *request["words"], f"--IPKernelApp.parent_handle={os.getppid()}"]
        sys.path[0] = request["folder"]
        runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
