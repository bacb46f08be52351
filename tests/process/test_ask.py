"""Asking a network on all cores: the same answers, shared out only where nobody can notice."""

import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from diffnotes import Schedule, UNet, ddim_sample, initial_noise
from diffnotes.process.ask import SHARE, _workers, ask
from diffnotes.process.elbo import elbo_terms
from diffnotes.process.guidance import Guided


class Watched(nn.Module):
    """A denoiser that notes how many images it was asked about at once, and with how many cores."""

    target = "x0"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.cores: set[int] = set()

    def forward(self, x_t, t, y=None):
        self.seen.append(len(x_t))
        self.cores.add(torch.get_num_threads())
        assert len(t) == len(x_t)
        assert y is None or len(y) == len(x_t)
        return x_t * t[:, None, None, None] + (0 if y is None else y[:, None, None, None])


@pytest.fixture(autouse=True)
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def asked(model, number, labels=False):
    """The answer for `number` images, and what it has to be."""
    x_t, t = torch.randn(number, 1, 4, 4), torch.arange(number) + 1
    y = torch.arange(number) if labels else None
    return ask(model, x_t, t, y), x_t * t[:, None, None, None] + (0 if y is None else y[:, None, None, None])


@torch.no_grad()
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    ("number", "shares"), [(1, [1]), (2 * SHARE - 1, [2 * SHARE - 1]), (9, [4, 5]), (64, [32, 32]), (0, [0])]
)
def test_each_core_takes_its_share_and_the_answers_come_back_in_order(number, shares, labels):
    model = Watched().eval()
    answer, expected = asked(model, number, labels)
    assert torch.equal(answer, expected)
    assert sorted(model.seen) == shares
    assert model.cores == {1 if len(shares) > 1 else 2}


@torch.no_grad()
def test_the_network_says_the_same_as_without_shares():
    torch.manual_seed(0)
    model = UNet(channels=8, multipliers=(1, 2), num_classes=10, patch=2).eval()
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.2)
    x_t, t, y = torch.randn(20, 1, 28, 28), torch.randint(1, 1001, (20,)), torch.arange(20) % 11
    for labels in (None, y):
        torch.testing.assert_close(ask(model, x_t, t, labels), model(x_t, t, labels), rtol=1e-4, atol=1e-4)


def test_in_one_piece_where_a_gradient_is_wanted():
    model = Watched().eval()
    asked(model, 64)
    assert model.seen == [64]


@torch.no_grad()
@pytest.mark.parametrize("hear", ["register_forward_hook", "register_forward_pre_hook"])
def test_in_one_piece_where_somebody_listens(hear):
    model = Watched()
    model.inner = nn.Identity()
    model.eval()
    hook = getattr(model.inner, hear)(lambda *_: None)
    asked(model, 64)
    hook.remove()
    asked(model, 64)
    assert model.seen == [64, 32, 32]


@torch.no_grad()
def test_in_one_piece_in_training_mode_under_autocast_and_without_a_module():
    model = Watched()
    asked(model, 64)
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        asked(model, 64)

    class Plain:
        target = "x0"
        __call__ = staticmethod(model)

    asked(Plain(), 64)
    assert model.seen == [64, 64, 64]


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_the_switches_of_the_one_who_asks_hold_on_every_core(switch):
    modes = set()

    class Mode(Watched):
        def forward(self, x_t, t, y=None):
            modes.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            return super().forward(x_t, t, y)

    model = Mode().eval()
    with switch():
        asked(model, 64)
    assert modes == {(False, switch is torch.inference_mode)}
    assert model.seen == [32, 32]


@torch.no_grad()
def test_the_number_of_cores_stays_what_it_was_here_and_for_new_threads():
    _workers.cache_clear()  # it is while they start that the number changes
    asked(Watched().eval(), 64)
    numbers = [torch.get_num_threads()]
    thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert numbers == [2, 2]


@torch.no_grad()
def test_an_error_on_one_core_reaches_the_one_who_asks():
    model = UNet(channels=8, multipliers=(1, 2)).eval()
    with pytest.raises(ValueError, match="height and width must be divisible by 2"):
        ask(model, torch.randn(64, 1, 27, 27), torch.ones(64, dtype=torch.long))


def test_samplers_guidance_and_the_bound_share_out():
    schedule, model = Schedule.cosine(T=10), Watched().eval()
    list(ddim_sample(model, schedule, initial_noise(0, 16, (1, 4, 4)), steps=2))
    assert model.seen == [8] * 4
    model.seen.clear()
    y = torch.ones(16, dtype=torch.long)
    list(ddim_sample(Guided(model, 2.0), schedule, initial_noise(0, 16, (1, 4, 4)), steps=1, y=y))
    assert model.seen == [8] * 4
    model.seen.clear()
    with torch.no_grad():
        elbo_terms(model, schedule, torch.zeros(16, 1, 4, 4), times=1, levels=None)
    assert model.seen
    assert set(model.seen) == {8}


FORKED = """
import os, torch
from diffnotes.process.ask import ask

class Same(torch.nn.Module):
    def forward(self, x_t, t, y=None):
        return x_t

torch.set_num_threads(2)
torch.set_grad_enabled(False)
x_t = torch.randn(64, 1, 2, 2)
assert torch.equal(ask(Same().eval(), x_t, torch.arange(64)), x_t)
child = os.fork()
if child == 0:
    os._exit(not torch.equal(ask(Same().eval(), x_t, torch.arange(64)), x_t))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no fork")
def test_a_forked_process_starts_its_own_workers():
    assert subprocess.run([sys.executable, "-c", FORKED], timeout=120, check=False).returncode == 0
