"""A run folder has one owner at a time, also where the owner is killed, and many may save into it in turn."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from diffnotes import Trainer
from diffnotes.training import checkpoint
from diffnotes.training import run_folder as module
from diffnotes.training.run_folder import LOCK, OWNER, RunInUse, own, owner_of

HOLD = """
import sys, time
from diffnotes.training.run_folder import own
ownership = own(sys.argv[1], by=None, purpose="training from the command line")
print("owned", flush=True)
time.sleep(1000)
"""
WRITE = """
import sys, torch
from diffnotes.training import checkpoint
folder, value = sys.argv[1], float(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    checkpoint.write(folder, {"a": torch.full((5000,), value + number)}, {"writer": value, "number": number})
"""


@pytest.fixture
def process(child_environment):
    """process(code, *arguments): another Python that runs the code and has printed a line; killed at the end."""
    started = []

    def start(code: str, *arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, env=child_environment, **pipes))
        assert started[-1].stdout.readline().strip() in ("owned", "ready")
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.communicate()


def test_the_owner_of_a_folder_is_named_to_the_second(tmp_path):
    with own(tmp_path / "new", by=None, purpose="training in a notebook"):
        words = rf"training in a notebook, by this process \({os.getpid()} on .+\), since 20\d\d-.+"
        with pytest.raises(
            RunInUse, match=rf"new is in use: {words}\. Two runs in one folder would overwrite each other"
        ):
            own(tmp_path / "new", by=None, purpose="another")
        assert owner_of(tmp_path / "new").startswith("training in a notebook")
    own(tmp_path / "new", by=None, purpose="another").release()
    assert owner_of(tmp_path / "new") is None and owner_of(tmp_path / "nowhere") is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == [LOCK]


def test_released_twice_is_released_once(tmp_path):
    first = own(tmp_path, by=None, purpose="first")
    first.release()
    second = own(tmp_path, by=None, purpose="second")
    first.release()
    assert owner_of(tmp_path).startswith("second")
    second.release()


def test_only_the_owner_saves_while_it_owns(tmp_path, make_trainer):
    mine, other = make_trainer(), make_trainer()
    with own(tmp_path, by=mine, purpose="training"):
        mine.save(tmp_path)
        with pytest.raises(RunInUse, match="is in use: training, by this process"):
            other.save(tmp_path)
    other.save(tmp_path)


def test_the_same_folder_by_another_path_is_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "run", target_is_directory=True)
    with own("run", by=None, purpose="training"):
        for path in (tmp_path / "run", "./run/../run", "link"):
            with pytest.raises(RunInUse):
                own(path, by=None, purpose="another")


def test_another_process_is_told_who_owns_the_folder_until_it_is_killed(tmp_path, process, make_trainer):
    child = process(HOLD, tmp_path)
    said = rf"training from the command line, by process \({child.pid} on "
    with pytest.raises(RunInUse, match=said):
        own(tmp_path, by=None, purpose="another")
    with pytest.raises(RunInUse, match=said):
        make_trainer().save(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / OWNER).exists() and owner_of(tmp_path) is None  # its words are still there, its lock is not
    make_trainer().save(tmp_path)
    own(tmp_path, by=None, purpose="another").release()


def test_two_writers_of_200_saves_each_both_end_and_the_file_is_always_whole(tmp_path, process):
    checkpoint.write(tmp_path, {"a": torch.zeros(5000)}, {"writer": 0.0, "number": 0})
    writers = [process(WRITE, tmp_path, value) for value in (1000.0, 2000.0)]
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    seen, looks = set(), 0
    while any(writer.poll() is None for writer in writers):
        tensors, metadata = checkpoint.read(tmp_path)  # CheckpointError if it were not whole
        assert (tensors["a"] == metadata["writer"] + metadata["number"]).all()
        seen.add(metadata["writer"])
        looks += 1
    assert [writer.returncode for writer in writers] == [0, 0], [writer.stderr.read() for writer in writers]
    assert seen >= {1000.0, 2000.0} and looks > 20
    assert checkpoint.read(tmp_path)[1]["number"] == 199
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.FILE_NAME, LOCK}


def test_a_temporary_file_of_a_living_writer_is_not_touched(tmp_path, monkeypatch):
    """A second writer comes while the first is between writing and renaming: it waits."""
    replace, order = os.replace, []
    second = threading.Thread(target=lambda: (checkpoint.write(tmp_path, {}, {"n": 2}), order.append("second")))

    def slow(source, target):
        if not order:
            second.start()
            second.join(timeout=0.5)
            assert second.is_alive() and os.path.exists(source)
            order.append("first")
        replace(source, target)

    monkeypatch.setattr(os, "replace", slow)
    checkpoint.write(tmp_path, {}, {"n": 1})
    second.join(timeout=10)
    assert order == ["first", "second"] and checkpoint.read(tmp_path)[1] == {"n": 2}


def test_somebody_who_never_ends_writing_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with module.writing(tmp_path), pytest.raises(RunInUse, match="somebody keeps writing there"):
        own(tmp_path, by=None, purpose="training")


def test_a_folder_that_cannot_be_written_to_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        own(tmp_path / "file" / "run", by=None, purpose="training")


def test_words_about_the_owner_that_cannot_be_read_do_not_matter(tmp_path):
    (tmp_path / OWNER).write_text("{not JSON")
    with own(tmp_path, by=None, purpose="training"):
        assert owner_of(tmp_path).startswith("training")


def test_a_run_of_the_trainer_survives_its_owner(tmp_path, make_trainer, few):
    trainer = make_trainer(20)
    with own(tmp_path, by=trainer, purpose="training"):
        for _ in trainer.steps(updates=3):
            trainer.save(tmp_path)
    assert Trainer.load(tmp_path, few(20)).update == 3


def test_a_folder_whose_owner_cannot_be_written_down_is_free_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.5)

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "write_text", full)
        try:
            own(tmp_path, by=None, purpose="training")
        except OSError as error:
            kept = error  # as a notebook keeps the last error, and with it all that was at hand
    assert "No space left" in str(kept)
    own(tmp_path, by=None, purpose="another").release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_owns_nothing(tmp_path):
    with own(tmp_path, by=None, purpose="training"):
        child = os.fork()
        if child == 0:
            os._exit(len(module._owners))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert owner_of(tmp_path).startswith("training")
