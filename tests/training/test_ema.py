import math

import numpy as np
import pytest
import torch
from torch import nn

from diffnotes.training.ema import EMA


def one_weight(value: float) -> nn.Module:
    """A network with a single weight, float64."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, value)
    return model


def averages(decay: float, first: float, weights: np.ndarray) -> list[float]:
    """The average after each of the weights was taken in."""
    model = one_weight(first)
    ema = EMA(model, decay)
    result = []
    for weight in weights:
        nn.init.constant_(model.weight, float(weight))
        ema.update(model)
        result.append(ema.model.weight.item())
    return result


def test_changing_weights_are_averaged_with_the_products_of_their_decays():
    weights = np.random.default_rng(0).normal(size=3000)
    n = np.arange(3000)
    decay = np.minimum(0.99, (1 + n) / (10 + n))
    kept = np.append(
        np.cumprod(decay[::-1])[::-1][1:], 1.0
    )  # what is left of update n at the end: product of the later
    expected = 2.5 * decay.prod() + np.sum((1 - decay) * weights * kept)
    assert averages(0.99, 2.5, weights)[-1] == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_first_weight_fades_as_one_over_a_binomial_coefficient_during_warm_up(n):
    # (1 * 2 * ... * n) / (10 * 11 * ... * (n + 9)) = n! 9! / (n + 9)!
    assert averages(0.999999, 1.0, np.zeros(n))[-1] == pytest.approx(1 / math.comb(n + 9, 9), rel=1e-12)


@pytest.mark.parametrize("decay, n", [(0.9, 80), (0.5, 8), (0.75, 26)])
def test_decay_is_reached_at_exactly_the_update_where_the_warm_up_passes_it(decay, n):
    average = [1.0, *averages(decay, 1.0, np.zeros(n + 20))]
    used = [after / before for before, after in zip(average, average[1:], strict=False)]
    assert used[n - 1] == pytest.approx(n / (n + 9), rel=1e-12) and n / (n + 9) < decay * (1 - 1e-5)
    assert used[n:] == pytest.approx([decay] * 20, rel=1e-12)


def test_decay_0_is_the_weights_themselves():
    assert averages(0.0, 7.0, np.array([1.0, -2.0, 3.5])) == [1.0, -2.0, 3.5]


def test_average_before_the_step_would_lag_and_the_one_after_it_does_not():
    # gradient descent on w^2 / 2 from w = 1 with rate 1/2: w = 1, 1/2, 1/4, 1/8; decays 1/10, 2/11, 3/12
    model = one_weight(1.0)
    ema, optimizer = EMA(model, 0.999), torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        (model.weight**2 / 2).sum().backward()
        optimizer.step()
        ema.update(model)
    after = before = 1.0
    for decay, new, old in zip((1 / 10, 2 / 11, 3 / 12), (1 / 2, 1 / 4, 1 / 8), (1, 1 / 2, 1 / 4), strict=True):
        after = decay * after + (1 - decay) * new
        before = decay * before + (1 - decay) * old
    assert ema.model.weight.item() == pytest.approx(after, rel=1e-12)
    assert abs(after - before) > 0.1  # so the line above tells the two orders apart


def test_averaged_network_is_in_eval_mode_and_the_trained_one_stays_in_train_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    ema = EMA(model)
    ema.update(model)
    assert not any(module.training for module in ema.model.modules())
    assert all(module.training for module in model.modules())


def test_average_has_no_gradients_and_leaves_the_networks_alone():
    model = nn.Linear(3, 1)
    ema = EMA(model)
    model(torch.ones(2, 3)).sum().backward()
    gradient = model.weight.grad.clone()
    ema.update(model)
    assert not any(p.requires_grad or p.grad is not None for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters()) and torch.equal(model.weight.grad, gradient)


def test_copy_is_independent_of_the_network():
    model = one_weight(1.0)
    ema = EMA(model)
    nn.init.constant_(model.weight, 5.0)
    assert ema.model.weight.item() == 1.0
    nn.init.constant_(ema.model.weight, -1.0)
    assert model.weight.item() == 5.0


def test_buffers_are_taken_over_and_not_averaged():
    model = nn.BatchNorm1d(2)
    ema = EMA(model)
    model(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    ema.update(model)
    assert ema.model.running_mean.tolist() == pytest.approx([0.2, 0.4])  # 0.1 of the batch's means 2 and 4
    assert ema.model.num_batches_tracked.item() == 1


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan])
def test_decay_outside_0_to_1_is_refused(decay):
    with pytest.raises(ValueError, match=rf"^decay must lie in \[0, 1\), got {decay}$"):
        EMA(one_weight(1.0), decay)
