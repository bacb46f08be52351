"""A run folder has one owner at a time: two trainings that save into one folder would overwrite each other's runs.

The owner holds a lock of the operating system's (through filelock), which is free again when its process ends, however it
ends; a file beside it says who the owner is. A single save waits for its turn and holds the lock as long as it writes.
"""

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

LOCK, OWNER = ".run.lock", ".run.owner.json"
PATIENCE = 30.0  # seconds that a save, or a training about to begin, waits for others' saves to end

_owners: dict[Path, "Ownership"] = {}  # the folders that this process owns
_changing = threading.Lock()
if hasattr(os, "register_at_fork"):  # a forked child owns nothing
    os.register_at_fork(after_in_child=_owners.clear)


class RunInUse(RuntimeError):
    """Somebody else owns the run folder; the message says who."""


class Ownership:
    """The ownership of a run folder `by` an object, until release() or the end of the process. Also a context manager."""

    def __init__(self, folder: Path, by: object, lock: FileLock) -> None:
        self.folder, self.by, self._lock = folder, by, lock

    def release(self) -> None:
        """Let others own the folder; nothing happens if it was released before."""
        with _changing:
            if _owners.get(self.folder) is self:
                del _owners[self.folder]
                try:
                    (self.folder / OWNER).unlink(missing_ok=True)  # while the lock is still held
                finally:
                    self._lock.release()

    def __enter__(self) -> "Ownership":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def own(folder: str | Path, by: object, purpose: str) -> Ownership:
    """Own the folder, made if it is not there, for a `purpose` said in a few words ("training in a notebook").

    While it lasts, only `by` may save there. RunInUse, naming process, host and purpose, if it has another owner, in this
    process or in any other; OSError if the folder cannot be made or written to."""
    path = _folder(folder)
    lock = _locked(path)
    try:
        (path / OWNER).write_text(json.dumps(_who(purpose)), encoding="utf-8")
    except BaseException:
        lock.release()
        raise
    with _changing:
        _owners[path] = Ownership(path, by, lock)
        return _owners[path]


@contextlib.contextmanager
def writing(folder: str | Path, by: object = None) -> Iterator[None]:
    """The right to write into the folder for a moment: at once for its owner, else when nobody else writes there.
    RunInUse if the folder is owned by somebody else."""
    path = _folder(folder)
    owner = _owners.get(path)
    if owner is not None and by is not None and owner.by is by:
        yield
        return
    lock = _locked(path)
    try:
        yield
    finally:
        lock.release()


def owner_of(folder: str | Path) -> str | None:
    """Who owns the folder, in words, or None; for messages, since it may change at any time."""
    path = Path(folder).resolve()
    if not (path / LOCK).exists():
        return None
    lock = FileLock(path / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _named(path)
    lock.release()
    return None


def _folder(folder: str | Path) -> Path:
    path = Path(folder).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _locked(path: Path) -> FileLock:
    """The folder's lock, held. Waits for those who only write; RunInUse if there is an owner."""
    lock, deadline = FileLock(path / LOCK, thread_local=False), time.monotonic() + PATIENCE
    while True:
        try:
            lock.acquire(timeout=0.3, poll_interval=0.002)
        except Timeout:
            owner = _named(path)
            if owner is None and time.monotonic() < deadline:
                continue
            raise RunInUse(
                f"{path} is in use: {owner or 'somebody keeps writing there'}. Two runs in one folder would overwrite each "
                "other: stop that one, or take another folder"
            ) from None
        (path / OWNER).unlink(missing_ok=True)  # of an owner that was killed
        return lock


def _who(purpose: str) -> dict[str, object]:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"purpose": purpose, "process": os.getpid(), "host": socket.gethostname(), "since": now}


def _named(path: Path) -> str | None:
    """The owner that the folder's file names, or None if there is no such file."""
    try:
        who = json.loads((path / OWNER).read_text(encoding="utf-8"))
        here = (who["process"], who["host"]) == (os.getpid(), socket.gethostname())
        process = f"{'this process' if here else 'process'} ({who['process']} on {who['host']})"
        return f"{who['purpose']}, by {process}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
