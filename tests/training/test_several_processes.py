"""Two processes that share every batch do what one process does. On the CPU, over torch.distributed."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time

from diffnotes.__main__ import main
from diffnotes.training import checkpoint

# Groups of two channels, and a warm-up: where a gradient is nothing but rounding (biases that a normalisation over one
# channel cancels), AdamW would make steps of full size out of the difference between two orders of summation; Muon does so
# in every direction in which the gradient is small.
RUN = ["--data", "digits", "--labels", "--T", "50", "--channels", "16", "--multipliers", "1", "--attention", "0"]
RUN += ["--patch", "4", "--precision", "float32", "--optimizer", "adamw", "--warmup", "20", "--batch-size", "8"]


def start(folder, environment: dict[str, str], *more: str) -> subprocess.Popen:
    """python -m diffnotes train on two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    return subprocess.Popen(
        [*launch, "-m", "diffnotes", "train", "--out", str(folder), *RUN, *more],
        env=environment | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that what it started can be stopped with it
    )


@contextlib.contextmanager
def ended(process: subprocess.Popen):
    """Whatever the test does, the process and those it started are gone afterwards."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_two_processes_train_the_same_network_as_one(tmp_path, child_environment, monkeypatch):
    """Measured: weights 1.2e-7 apart, losses and norms 6e-8; a step is about 1e-3."""
    with ended(start(tmp_path / "two", child_environment, "--updates", "10")) as process:
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors.decode()
    assert b"2 process(es)" in output and output.count(b"10 updates") == 1

    monkeypatch.setenv("DIFFNOTES_OFFLINE", "1")
    with contextlib.redirect_stderr(io.StringIO()):
        assert main(["train", "--out", str(tmp_path / "one"), *RUN, "--updates", "10"]) == 0
    one, about_one = checkpoint.read(tmp_path / "one")
    two, about_two = checkpoint.read(tmp_path / "two")
    about_one.pop("seconds"), about_two.pop("seconds")
    assert about_one == about_two and one.keys() == two.keys()
    for name in one:
        if name.startswith(("model.", "ema.", "optimizer.")):
            assert (one[name] - two[name]).abs().max() < 2e-6, name
    columns = [0, 1, 3, 4, 5, 6]  # all but the seconds
    assert (one["history"][:, columns] - two["history"][:, columns]).abs().max() < 2e-6
    assert one["history"][0, 3] - one["history"][-1, 3] > 0.02  # and it is not that nothing was learned


def test_both_save_on_the_way_and_an_interrupt_of_one_process_ends_and_saves_the_run(tmp_path, child_environment):
    budget = ["--updates", "1000000", "--save-every", "0.1"]
    with ended(start(tmp_path / "run", child_environment, *budget)) as process:
        seen = b""
        while b"loss=" not in seen:
            more = process.stderr.read1()
            assert more, seen.decode()
            seen += more
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / checkpoint.FILE_NAME).exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)  # torchrun passes it on
        output, _ = process.communicate(timeout=100)
    assert b"updates" in output and b"saved to" in output
    tensors, about = checkpoint.read(tmp_path / "run")
    assert about["update"] == about["ema_updates"] == len(tensors["history"]) >= 1
    assert {v.item() for k, v in tensors.items() if k.endswith(".step")} == {float(about["update"])}
