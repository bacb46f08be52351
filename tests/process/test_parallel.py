"""A network on all cores: the same predictions, shared out only where nobody can notice."""

import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn

from diffnotes import Schedule, UNet, ddim_sample, ddpm_sample, initial_noise
from diffnotes.process.elbo import elbo_terms
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.parallel import IMAGES_PER_CORE, _started, iterate_in_parallel, predict_in_parallel


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


def predicted(model, number, labels=False):
    """The prediction for `number` images, and what it has to be."""
    x_t, t = torch.randn(number, 1, 4, 4), torch.arange(number) + 1
    y = torch.arange(number) if labels else None
    return predict_in_parallel(model, x_t, t, y), x_t * t[:, None, None, None] + (
        0 if y is None else y[:, None, None, None]
    )


@torch.no_grad()
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    ("number", "shares"),
    [(1, [1]), (2 * IMAGES_PER_CORE - 1, [2 * IMAGES_PER_CORE - 1]), (9, [4, 5]), (64, [32, 32]), (0, [0])],
)
def test_each_core_takes_its_share_and_the_predictions_come_back_in_order(number, shares, labels):
    model = Watched().eval()
    prediction, expected = predicted(model, number, labels)
    assert torch.equal(prediction, expected)
    assert sorted(model.seen) == shares
    assert model.cores == {1 if len(shares) > 1 else 2}


@torch.no_grad()
def test_the_network_predicts_the_same_as_without_shares():
    torch.manual_seed(0)
    model = UNet(channels=8, multipliers=(1, 2), num_classes=10, patch=2).eval()
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.2)
    x_t, t, y = torch.randn(20, 1, 28, 28), torch.randint(1, 1001, (20,)), torch.arange(20) % 11
    for labels in (None, y):
        torch.testing.assert_close(
            predict_in_parallel(model, x_t, t, labels), model(x_t, t, labels), rtol=1e-4, atol=1e-4
        )


def test_in_one_piece_where_a_gradient_is_wanted():
    model = Watched().eval()
    predicted(model, 64)
    assert model.seen == [64]


@torch.no_grad()
@pytest.mark.parametrize("hear", ["register_forward_hook", "register_forward_pre_hook"])
def test_in_one_piece_where_a_hook_listens(hear):
    model = Watched()
    model.inner = nn.Identity()
    model.eval()
    hook = getattr(model.inner, hear)(lambda *_: None)
    predicted(model, 64)
    hook.remove()
    predicted(model, 64)
    assert model.seen == [64, 32, 32]


@torch.no_grad()
def test_in_one_piece_in_training_mode_under_autocast_and_without_a_module():
    model = Watched()
    predicted(model, 64)
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        predicted(model, 64)

    class Plain:
        target = "x0"
        __call__ = staticmethod(model)

    predicted(Plain(), 64)
    assert model.seen == [64, 64, 64]


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_the_switches_of_the_caller_hold_on_every_core(switch):
    modes = set()

    class Mode(Watched):
        def forward(self, x_t, t, y=None):
            modes.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            return super().forward(x_t, t, y)

    model = Mode().eval()
    with switch():
        predicted(model, 64)
    assert modes == {(False, switch is torch.inference_mode)}
    assert model.seen == [32, 32]


@torch.no_grad()
def test_the_number_of_cores_stays_what_it_was_here_and_for_new_threads():
    _started.cache_clear()  # it is while they start that the number changes
    predicted(Watched().eval(), 64)
    numbers = [torch.get_num_threads()]
    thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert numbers == [2, 2]


@torch.no_grad()
def test_an_error_on_one_core_reaches_the_caller():
    model = UNet(channels=8, multipliers=(1, 2)).eval()
    with pytest.raises(ValueError, match="height and width must be divisible by 2"):
        predict_in_parallel(model, torch.randn(64, 1, 27, 27), torch.ones(64, dtype=torch.long))


def test_samplers_guidance_and_the_bound_share_out():
    schedule, model = Schedule.cosine(T=10), Watched().eval()
    list(ddim_sample(model, schedule, initial_noise(0, 16, (1, 4, 4)), steps=2))
    assert model.seen == [8] * 4
    model.seen.clear()
    y = torch.ones(16, dtype=torch.long)
    list(ddim_sample(ClassifierFreeGuidance(model, 2.0), schedule, initial_noise(0, 16, (1, 4, 4)), steps=1, y=y))
    assert model.seen == [8] * 4
    model.seen.clear()
    with torch.no_grad():
        elbo_terms(model, schedule, torch.zeros(16, 1, 4, 4), times=1, levels=None)
    assert model.seen
    assert set(model.seen) == {8}


def test_side_by_side_hands_over_the_items_in_order_from_a_thread_for_each():
    threads = [set(), set(), set()]

    def path(number):
        for item in range(5):
            threads[number].add(threading.current_thread().name)
            time.sleep(0.002 * (number == item % 3))  # now the one is behind, now the other
            yield number, item, torch.get_num_threads()

    items = list(iterate_in_parallel([path(number) for number in range(3)]))
    assert items == [[(number, item, 1) for number in range(3)] for item in range(5)]
    assert all(len(names) == 1 for names in threads)
    assert len(set.union(*threads)) == 3


def test_side_by_side_begins_when_it_is_asked_and_is_one_item_ahead():
    begun = [0, 0]

    def path(number):
        for item in range(10):
            begun[number] += 1
            yield item

    both = iterate_in_parallel([path(0), path(1)])
    assert begun == [0, 0]
    for wanted in (1, 2, 3):
        next(both)
        side_by_side_is_idle()
        assert begun == [wanted + 1] * 2
    both.close()
    side_by_side_is_idle()
    assert begun == [4, 4]
    assert list(zip(*iterate_in_parallel([iter(range(3)), iter(range(3))]), strict=True)) == [(0, 1, 2)] * 2


def side_by_side_is_idle():
    """Waits until the cores have done what they were given."""
    list(iterate_in_parallel([iter([0]), iter([0])]))


def test_side_by_side_lets_a_core_that_is_held_up_catch_up():
    """The first core waits for the second to be an item further: taken item by item, that would never be."""
    second_is_ahead = threading.Event()

    def first():
        assert second_is_ahead.wait(timeout=60)
        yield 0
        yield 1

    def second():
        yield 0
        second_is_ahead.set()
        yield 1

    assert list(iterate_in_parallel([first(), second()])) == [[0, 0], [1, 1]]


def test_side_by_side_passes_on_an_error_and_goes_on_afterwards():
    def broken():
        yield 0
        raise ValueError("broken")

    both = iterate_in_parallel([iter([0, 1, 2]), broken()])
    assert next(both) == [0, 0]
    with pytest.raises(ValueError, match="broken"):
        next(both)
    assert list(iterate_in_parallel([iter([0]), iter([1])])) == [[0, 1]]


def test_side_by_side_gives_up_what_nobody_wants_any_more():
    go_on, begun = threading.Event(), []

    def broken():
        yield 0
        raise ValueError("broken")

    def slow():
        for item in range(5):
            begun.append(item)
            if item > 0:
                assert go_on.wait(timeout=60)
            yield item

    both = iterate_in_parallel([broken(), slow()])
    next(both)
    with pytest.raises(ValueError, match="broken"):
        next(both)
    go_on.set()
    side_by_side_is_idle()
    assert begun == [0, 1]


class InOnePiece:
    """A denoiser that is no nn.Module: its batches stay whole."""

    def __init__(self, model):
        self.model, self.target = model, model.target

    def __call__(self, x_t, t, y=None):
        return self.model(x_t, t, y)


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = UNet(channels=8, multipliers=(1, 2), num_classes=10, patch=2).eval()
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.1)
    return model


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (ddim_sample, {}),
        (ddim_sample, {"eta": 1.0, "generator": 3}),
        (ddpm_sample, {"generator": 3}),
        (ddim_sample, {"eta": 1.0, "generator": "one for all"}),
    ],
)
def test_a_sampler_that_shares_out_draws_what_it_draws_in_one_piece(network, sampler, options, labels):
    def frames(model):
        settings = dict(options)
        if settings.get("generator") == "one for all":
            settings["generator"] = torch.Generator().manual_seed(3)
        y = torch.arange(13) % 10 if labels else None
        return list(sampler(model, Schedule.cosine(T=10), x_T, steps=5, clip=True, y=y, **settings))

    x_T = initial_noise(0, 13)
    for ours, whole in zip(frames(network), frames(InOnePiece(network)), strict=True):
        assert ours.t == whole.t
        for half in ("x_t", "x0_hat", "eps_hat"):
            torch.testing.assert_close(getattr(ours, half), getattr(whole, half), rtol=1e-4, atol=1e-4)


def test_a_sampler_that_is_stopped_takes_one_step_more_at_most():
    model = Watched().eval()
    frames = ddim_sample(model, Schedule.cosine(T=10), initial_noise(0, 16, (1, 4, 4)), steps=10)
    next(frames)
    frames.close()
    side_by_side_is_idle()
    assert model.seen in ([8] * 2, [8] * 3, [8] * 4)  # a step that has not begun is given up


def test_labels_that_are_too_many_are_not_cut_to_size(network, as_installed):
    with pytest.raises(ValueError, match="got 17 labels for 16 images"):
        list(ddim_sample(network, Schedule.cosine(T=10), initial_noise(0, 16), steps=2, y=torch.zeros(17).long()))


FORKED = """
import os, torch
from diffnotes.process.parallel import predict_in_parallel

class Same(torch.nn.Module):
    def forward(self, x_t, t, y=None):
        return x_t

torch.set_num_threads(2)
torch.set_grad_enabled(False)
x_t = torch.randn(64, 1, 2, 2)
assert torch.equal(predict_in_parallel(Same().eval(), x_t, torch.arange(64)), x_t)
child = os.fork()
if child == 0:
    os._exit(not torch.equal(predict_in_parallel(Same().eval(), x_t, torch.arange(64)), x_t))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no fork")
def test_a_forked_process_starts_its_own_workers():
    assert subprocess.run([sys.executable, "-c", FORKED], timeout=120, check=False).returncode == 0
