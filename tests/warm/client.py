"""A kernel as Jupyter sees it: python -S -E client.py SOCKET PID -f CONNECTION_FILE. It has the zygote fork the kernel proper,
passes signals on to it, and ends as it ends. The first client starts the zygote. It imports little, to be there at once."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")


def connected(path: str, parent: str) -> socket.socket:
    """A connection to the zygote, which is started if need be."""
    with open(f"{path}.lock", "w") as lock, open(f"{path}.log", "a") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        zygote = None
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(path)
                return connection
            except OSError:
                connection.close()
            if zygote is None:
                if os.path.exists(path):  # left behind by one that was killed
                    os.unlink(path)
                command = [sys.executable, ZYGOTE, path, parent]
                zygote = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            elif zygote.poll() is not None:
                raise SystemExit(f"the zygote did not start: see {path}.log")
            time.sleep(0.02)  # there is nothing to listen to before it is up


def main(path: str, parent: str, *words: str) -> int:
    """The exit status of the kernel."""
    starter = os.getppid()
    connection = connected(path, parent)
    request = {"words": words, "environment": dict(os.environ), "folder": os.getcwd()}
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
    kernel = int(connection.recv(64))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(kernel, number))
    connection.settimeout(1)
    while os.getppid() == starter:  # as a kernel does, it ends with the process that started it
        try:
            status = int(connection.recv(64) or 1)
        except TimeoutError:
            continue
        if status < 0:
            if -status in (signal.SIGINT, signal.SIGTERM):  # those that are passed on
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        return status
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
