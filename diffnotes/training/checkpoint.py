"""One file that holds a training run, written whole or not at all, and refused if a byte of it is wrong.

The file is a safetensors file: tensors, and a JSON text in its header. Loading it runs no code. The header also holds
the SHA-256 of everything else, so a file that was cut off or changed is noticed before it is used.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnotes.training.run_folder import writing

FILE_NAME = "checkpoint.safetensors"
FORMAT = "diffnotes-1"


class CheckpointError(ValueError):
    """The file is no checkpoint of ours, or is damaged; the message names it."""


def write(folder: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any], by: object = None) -> Path:
    """Write tensors and metadata (anything JSON can hold) to folder/checkpoint.safetensors, or to the file itself if a
    .safetensors file is named; returns the path. RunInUse while the folder has an owner other than `by` (run_folder.py).

    They go to a temporary file first, which is flushed to the disk and then renamed: one finds, even after a power
    cut, either the old checkpoint or the new one."""
    from safetensors.torch import save

    path = _path(folder)
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    tensors = _separate(tensors)
    content = save(tensors, metadata={"format": FORMAT, "metadata": text, "sha256": _digest(tensors, text)})
    with writing(path.parent, by):
        for stale in path.parent.glob(
            f"{path.name}.*.tmp"
        ):  # of a process that was killed: the living ones wait for us
            stale.unlink(missing_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    return path


def read(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the metadata in folder/checkpoint.safetensors (or in the file itself, if named).

    FileNotFoundError if there is none, CheckpointError naming the file if it is damaged or not ours."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = _path(folder)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        content = path.read_bytes()  # at once: the next moment another checkpoint may have the name
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged and was not loaded: {error}") from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a diffnotes checkpoint: its format is {header.get('format')!r}, not {FORMAT!r}"
        )
    if header.get("sha256") != _digest(tensors, header.get("metadata", "")):
        raise CheckpointError(f"{path} is damaged and was not loaded: its content does not match its checksum")
    return tensors, json.loads(header["metadata"])


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in memory of its own: a safetensors file has no place for weights that are shared."""
    separate: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        taken.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate


def _path(folder: str | Path) -> Path:
    path = Path(folder)
    return path if path.suffix == ".safetensors" and not path.is_dir() else path / FILE_NAME


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # the rename itself reaches the disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
