import errno
import json
import os
import re
import struct

import pytest
import safetensors.torch
import torch

from diffnotes.training import checkpoint
from diffnotes.training.checkpoint import CheckpointError
from diffnotes.training.run_folder import LOCK

FILE = "checkpoint.safetensors"


def names(folder) -> list[str]:
    """What lies in the folder, in order, but for the lock that writers leave there."""
    return sorted(set(os.listdir(folder)) - {LOCK})


def tensors() -> dict[str, torch.Tensor]:
    """One of every kind that a run may hold."""
    g = torch.Generator().manual_seed(0)
    return {
        "float32": torch.randn(3, 4, 5, generator=g),
        "bfloat16": torch.randn(7, generator=g).bfloat16(),
        "float64": torch.randn(2, 3, generator=g, dtype=torch.float64),
        "half": torch.randn(5, generator=g).half(),
        "int64": torch.tensor([[-(2**62), 0], [1, 2**62]]),
        "bool": torch.tensor([True, False, True]),
        "one number": torch.tensor(41.0),
        "not finite": torch.tensor([float("nan"), float("inf"), -0.0]),
        "empty history": torch.empty(0, dtype=torch.float64),
        "empty rows": torch.empty(0, 7),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "part of a larger one": torch.arange(10.0)[3:7],
    }


METADATA = {"config": {"seed": 3, "rate": 0.1 + 0.2}, "name": "Füllung β̃_t", "list": [1, 2.5, None, True], "empty": {}}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in kind, shape and every bit (NaN is not equal to itself, but its bits are)."""
    bits = [bytes(t.contiguous().reshape(-1).view(torch.uint8).tolist()) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and bits[0] == bits[1]


# -- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tensors())
def test_tensor_comes_back_bit_by_bit(tmp_path, name):
    checkpoint.write(tmp_path, tensors(), METADATA)
    read, _ = checkpoint.read(tmp_path)
    assert same_bits(read[name], tensors()[name])


def test_metadata_and_names_come_back(tmp_path):
    checkpoint.write(tmp_path, tensors(), METADATA)
    read, metadata = checkpoint.read(tmp_path)
    assert metadata == METADATA and read.keys() == tensors().keys()


def test_gradient_is_not_kept_and_the_tensor_given_is_left_as_it_was(tmp_path):
    weight = torch.ones(3, requires_grad=True)
    checkpoint.write(tmp_path, {"weight": weight}, {})
    assert not checkpoint.read(tmp_path)[0]["weight"].requires_grad and weight.requires_grad


def test_folder_is_made_and_the_path_returned(tmp_path):
    path = checkpoint.write(tmp_path / "runs" / "first", tensors(), METADATA)
    assert path == tmp_path / "runs" / "first" / FILE
    assert names(path.parent) == [FILE]


def test_file_may_be_named_instead_of_its_folder(tmp_path):
    path = checkpoint.write(tmp_path / "mine.safetensors", tensors(), METADATA)
    assert path == tmp_path / "mine.safetensors" and names(tmp_path) == ["mine.safetensors"]
    assert checkpoint.read(str(path))[1] == METADATA


def test_any_reader_of_safetensors_can_open_the_file(tmp_path):
    read = safetensors.torch.load_file(checkpoint.write(tmp_path, tensors(), METADATA))
    assert all(same_bits(read[name], tensor) for name, tensor in tensors().items())


def test_second_checkpoint_replaces_the_first(tmp_path):
    checkpoint.write(tmp_path, {"a": torch.zeros(2), "b": torch.zeros(1)}, {"update": 1})
    checkpoint.write(tmp_path, {"a": torch.ones(2)}, {"update": 2})
    read, metadata = checkpoint.read(tmp_path)
    assert metadata == {"update": 2} and list(read) == ["a"] and read["a"].tolist() == [1, 1]


# -- files that are refused -----------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    """A good checkpoint's path."""
    return checkpoint.write(tmp_path, tensors(), METADATA)


def assert_refused(path, text: str = "") -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"{path} is ") + text):
        checkpoint.read(path.parent)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, 0.3, 0.9, -8, -1])
def test_cut_off_file_is_refused_by_name(written, kept):
    content = written.read_bytes()
    written.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    assert_refused(written, "damaged and was not loaded: ")


def test_file_with_something_after_its_end_is_refused(written):
    written.write_bytes(written.read_bytes() + b"\0")
    assert_refused(written, "damaged")


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_flipped_bit_anywhere_is_refused_by_name(written, bit):
    """Every 7th byte of the header with its length, and every 11th of the tensors."""
    content = written.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    end = content[:header].rstrip(b" ")  # spaces fill the header up; they mean nothing
    for place in [*range(8), *range(8, len(end), 7), *range(header, len(content), 11), len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= bit
        written.write_bytes(changed)
        assert_refused(written)


def test_two_tensors_that_changed_places_are_refused(tmp_path):
    path = checkpoint.write(tmp_path, {"a": torch.zeros(4), "b": torch.ones(4)}, {})
    content = path.read_bytes()
    path.write_bytes(content[:-32] + content[-16:] + content[-32:-16])
    assert_refused(path, "damaged and was not loaded: its content does not match its checksum")


def test_changed_metadata_is_refused(tmp_path):
    path = checkpoint.write(tmp_path, {"a": torch.zeros(1)}, {"update": 100})
    path.write_bytes(path.read_bytes().replace(b"update", b"updaze"))
    assert_refused(path, "damaged and was not loaded: its content does not match its checksum")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95" + bytes(100), b"PK\x03\x04" + bytes(1000)])
def test_file_of_another_kind_is_refused_by_name(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    assert_refused(tmp_path / FILE, "damaged and was not loaded")


@pytest.mark.parametrize(
    "header, found", [(None, "None"), ({"format": "pt"}, "'pt'"), ({"format": "diffnotes-2"}, "'diffnotes-2'")]
)
def test_safetensors_file_of_someone_else_is_refused_by_name(tmp_path, header, found):
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / FILE, metadata=header)
    assert_refused(tmp_path / FILE, f"not a diffnotes checkpoint: its format is {found}, not 'diffnotes-1'$")


def test_right_format_without_a_checksum_is_refused(tmp_path):
    header = {"format": "diffnotes-1", "metadata": json.dumps({"update": 1})}
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / FILE, metadata=header)
    assert_refused(tmp_path / FILE, "damaged")


def test_missing_checkpoint_is_a_file_not_found_that_names_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^there is no checkpoint at {re.escape(str(tmp_path / FILE))}$"):
        checkpoint.read(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=f"^there is no checkpoint at {re.escape(str(tmp_path / 'no' / FILE))}$"
    ):
        checkpoint.read(tmp_path / "no")


# -- writes that fail -----------------------------------------------------------------------------------------------


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_write_that_fails_leaves_the_old_checkpoint_and_nothing_else(written, monkeypatch, call, error):
    before = written.read_bytes()

    def fail(*_: object) -> None:
        raise error("stop")

    with monkeypatch.context() as patch, pytest.raises(error, match="stop"):
        patch.setattr(os, call, fail)
        checkpoint.write(written.parent, {"a": torch.zeros(1)}, {})
    assert written.read_bytes() == before and names(written.parent) == [FILE]


def test_first_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", no_space)
        checkpoint.write(tmp_path, tensors(), METADATA)
    assert names(tmp_path) == []


def test_metadata_that_json_cannot_hold_is_refused_before_anything_is_written(written):
    before = written.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.write(written.parent, tensors(), {"loss": float("nan")})
    assert written.read_bytes() == before and names(written.parent) == [FILE]


def test_content_is_on_the_disk_before_it_gets_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def note_sync(handle: int) -> None:
        calls.append(("sync", os.fstat(handle).st_ino))
        fsync(handle)

    def note_rename(source, target) -> None:
        calls.append(("rename", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    path = checkpoint.write(tmp_path, tensors(), METADATA)
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert calls == [("sync", file), ("rename", file), ("sync", folder)]


def test_leftovers_of_writers_that_were_killed_are_removed(tmp_path):
    leftover, other = tmp_path / f"{FILE}.12345.tmp", tmp_path / "notes.tmp"
    leftover.write_bytes(b"half a checkpoint")
    other.write_text("mine")
    checkpoint.write(tmp_path, tensors(), METADATA)
    assert names(tmp_path) == [FILE, "notes.tmp"]


def test_leftovers_are_never_read(tmp_path):
    (tmp_path / f"{FILE}.12345.tmp").write_bytes(b"half a checkpoint")
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path)
