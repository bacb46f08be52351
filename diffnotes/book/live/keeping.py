"""Runs that train beside the notebook and are not lost: each owns its folder while it trains, is saved every half minute,
and writes over no other run."""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from diffnotes.book.live.background import AnyTrainer
from diffnotes.training import checkpoint
from diffnotes.training.run_folder import Ownership, own


class Keeper:
    """Keeps each of the trainers' runs in its folder (None: nowhere), every `every` seconds and whenever `save` is called.

    A checkpoint of another run that is found in a folder is not written over: it gets a folder beside it, `mine-1` beside
    `mine`. `kept_beside` lists those folders, each after the one that it comes from."""

    def __init__(self, trainers: Sequence[AnyTrainer], folders: Sequence[str | Path | None], every: float) -> None:
        if not every > 0:
            raise ValueError(f"save_every must be a positive number of seconds, got {every}")
        pairs = zip(trainers, folders, strict=True)
        self.folders = [(trainer, Path(folder)) for trainer, folder in pairs if folder is not None]
        self.every, self.kept_beside = every, list[tuple[Path, Path]]()
        self.trouble = ""  # what went wrong when it was last saved
        self._owned: list[Ownership] = []
        self._ours: set[Path] = set()  # where the checkpoint is one of this run
        self._next = time.monotonic() + every

    def own(self) -> None:
        """Own the folders from here to `release`: makes them and writes to them. RunInUse names another owner; OSError says
        that a folder cannot be written to."""
        try:
            for trainer, folder in self.folders:
                try:
                    self._owned.append(own(folder, by=trainer, purpose="training in a notebook"))
                except OSError as error:
                    reason = error.strerror or error
                    raise OSError(f"folder must be one that can be written to, got {folder}: {reason}") from error
        except BaseException:
            self.release()
            raise
        self._ours.clear()  # others may have written there since
        self._next = time.monotonic() + self.every

    @property
    def owns(self) -> bool:
        """Whether the folders are its own now (or it has none)."""
        return len(self._owned) == len(self.folders)

    def release(self) -> None:
        """Let others use the folders."""
        while self._owned:
            self._owned.pop().release()

    def save_if_due(self) -> None:
        """Save if it is time to. What goes wrong is noted in `trouble`; it is tried again when it is time once more."""
        if time.monotonic() >= self._next:
            with suppress(Exception):
                self.save()

    def save(self) -> list[Path]:
        """Save every run, and return the paths. The first error is raised when all have been tried, and noted."""
        paths, errors = [], []
        for trainer, folder in self.folders:
            try:
                self._keep_beside(trainer, folder)
                paths.append(trainer.save(folder))
                self._ours.add(folder)
            except Exception as error:
                errors.append(error)
        self._next = time.monotonic() + self.every
        self.trouble = f"Saving failed ({type(errors[0]).__name__}: {errors[0]})." if errors else ""
        if errors:
            raise errors[0]
        return paths

    def _keep_beside(self, trainer: AnyTrainer, folder: Path) -> None:
        """If the folder holds another run, give that a folder of its own."""
        path = folder / checkpoint.FILE_NAME
        if folder in self._ours or not path.is_file() or is_earlier_state(path, trainer):
            return
        beside = _new_folder_beside(folder)
        try:
            try:
                os.link(path, beside / path.name)  # the new checkpoint takes the other name only when it is whole
            except OSError:  # not every file system has such links
                shutil.copy2(path, beside / path.name)
        except OSError:
            with suppress(OSError):
                (beside / path.name).unlink(missing_ok=True)
                beside.rmdir()
            raise
        self.kept_beside.append((folder, beside))
        self._ours.add(folder)


def is_earlier_state(path: Path, trainer: AnyTrainer) -> bool:
    """Whether the checkpoint is of the trainer's own run, no further than the trainer is; so too if nothing was trained."""
    try:
        tensors, metadata = checkpoint.read(path)
    except checkpoint.CheckpointError:  # damaged, or of a newer version
        return False
    update, history = metadata.get("update"), tensors.get("history")
    if update == 0:
        return True
    if not update or history is None or len(history) < update or len(trainer.history) < update:
        return False
    state = trainer.history[update - 1]
    return history[update - 1, :4].tolist() == [state.update, state.images, state.seconds, state.loss]


def _new_folder_beside(folder: Path) -> Path:
    folder, number = folder if folder.name else folder.resolve(), 0
    while True:
        number += 1
        beside = folder.with_name(f"{folder.name}-{number}")
        with suppress(FileExistsError):
            beside.mkdir()
            return beside
