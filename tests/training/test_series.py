"""The transformer that completes series, its data and objective, and the scores of forecasts."""

import numpy as np
import pytest
import torch
from torch import nn

from diffnotes.models.series import SeriesTransformer
from diffnotes.process.forward import q_sample
from diffnotes.process.inverse import conditional_sample
from diffnotes.process.parameterize import v_from_x0_eps
from diffnotes.process.schedules import Schedule
from diffnotes.training.config import TrainConfig
from diffnotes.training.forecasts import coverage, crps
from diffnotes.training.objectives import Draw, MaskedSeries
from diffnotes.training.objectives.masked_series import series_masks
from diffnotes.training.pretrained import SERIES, load_series
from diffnotes.training.restore import load_model
from diffnotes.training.series import Series
from diffnotes.training.train_series import two_periods, windows
from diffnotes.training.trainer import Trainer

SCHEDULE = Schedule.cosine(T=50)


def small() -> SeriesTransformer:
    torch.manual_seed(0)
    return SeriesTransformer(48, width=8, depth=1, heads=2)


def test_the_network_sees_values_masks_and_times():
    model = small()
    for modulation in model.modulations:
        nn.init.normal_(modulation.weight, std=0.3)
    x, seen = torch.randn(3, 48, generator=torch.Generator().manual_seed(0)), torch.arange(48).expand(3, 48) < 20
    out = model(x, 7, seen)
    assert out.shape == x.shape
    for other in (model(x, 30, seen), model(x, 7, ~seen), model(x + (torch.arange(48) == 40), 7, seen)):
        assert not torch.allclose(other[:, 0], out[:, 0])
    np.testing.assert_allclose(model(x, 7).detach(), model(x, 7, torch.zeros(3, 48, dtype=torch.bool)).detach())
    with pytest.raises(ValueError, match=r"^x_t must have the shape \(B, 48\), got \(2, 40\)$"):
        model(torch.zeros(2, 40), 7)


def test_the_objective_is_the_loss_of_the_hidden_part_with_the_seen_part_clean():
    class Spy(nn.Module):
        target = "v"

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x_t, t, seen):
            self.told = x_t, t, seen
            return 0 * x_t + self.weight

    spy, data = Spy(), windows(16, seed=1)
    losses = MaskedSeries(SCHEDULE)(spy, data, Draw(0, 3, 16))
    x_t, t, seen = spy.told
    assert torch.equal(x_t[seen], data.x[seen]) and not torch.equal(x_t[~seen], data.x[~seen])
    a, b = SCHEDULE.alpha_bar[t].sqrt()[:, None].float(), (1 - SCHEDULE.alpha_bar[t]).sqrt()[:, None].float()
    eps = (x_t - a * data.x) / b
    np.testing.assert_allclose(q_sample(SCHEDULE, data.x, t, eps)[~seen], x_t[~seen], atol=1e-5)
    v = v_from_x0_eps(SCHEDULE, data.x, eps, t).square()
    expected = torch.stack([v[i][~seen[i]].mean() for i in range(16)])
    np.testing.assert_allclose(losses.total.detach(), expected, rtol=1e-4)
    every = MaskedSeries(SCHEDULE)(spy, windows(50, seed=1), Draw(0, 3, 50))
    assert torch.equal(spy.told[1].sort().values, torch.arange(1, 51))  # each time once: they lie evenly
    assert torch.bincount(every.time_bin).tolist() == [5] * 10


def test_shares_of_a_batch_make_the_whole():
    model, data, objective = small(), windows(8, seed=1), MaskedSeries(SCHEDULE)
    whole = objective(model, data, Draw(0, 2, 8)).total
    halves = [objective(model, data[part], Draw(0, 2, 8, part)).total for part in (slice(0, 4), slice(4, 8))]
    np.testing.assert_allclose(torch.cat(halves).detach(), whole.detach(), rtol=1e-5)


def test_masks_are_of_three_kinds_and_hide_something():
    seen = series_masks(3000, 48, torch.Generator().manual_seed(0))
    assert (~seen).any(1).all()
    changes = (seen[:, 1:] != seen[:, :-1]).sum(1)
    ends, gaps = (changes == 1) & ~seen[:, -1], (changes == 2) & seen[:, 0] & seen[:, -1]
    assert all(0.25 < float(kind.float().mean()) < 0.45 for kind in (ends, gaps, changes > 2))
    hidden = (~seen).sum(1)
    assert torch.equal(hidden[ends].unique(), torch.arange(1, 41))  # up to 5/6 of the positions
    long = ~seen[gaps & (hidden >= 10)]  # of a gap from any place to any other
    assert long[:, 1].any() and long[:, -2].any() and not long[:, [0, -1]].any()


def test_a_run_is_trained_saved_and_loaded(tmp_path):
    config = TrainConfig(batch_size=16, warmup=5, precision="float32")
    trainer = Trainer(small(), MaskedSeries(SCHEDULE), windows(200), config)
    losses = [state.loss for state in trainer.steps(updates=40)]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    trainer.save(tmp_path)
    again, schedule = load_model(tmp_path)
    assert isinstance(again, SeriesTransformer) and schedule.T == 50
    assert Trainer.load(tmp_path, data=windows(200)).update == 40


def test_the_weights_that_ship_complete_better_than_the_mean_does():
    assert SERIES.stat().st_size < 1_000_000
    model, schedule = load_series()
    data = windows(64, seed=11)
    with torch.no_grad():
        loss = MaskedSeries(schedule)(model, data, Draw(0, 0, 64)).total.mean()
    assert float(loss) < 0.6
    process, seen = two_periods(), torch.arange(48) < 32
    truth = process.draw(2, torch.Generator().manual_seed(3))
    known = truth.float().repeat_interleave(50, 0)
    x_T = torch.randn(100, 48, generator=torch.Generator().manual_seed(4))
    *_, last = conditional_sample(model, schedule, x_T, known, seen.expand(100, -1), steps=8)
    assert torch.equal(last.x_t[:, :32], known[:, :32])
    draws = last.x_t.unflatten(0, (2, 50)).transpose(0, 1).double()
    assert crps(draws, truth)[:, 32:].mean() < crps(torch.randn(50, 2, 48).double(), truth)[:, 32:].mean()


def test_series_know_themselves_and_refuse_others():
    data = windows(10)
    assert len(data) == 10 and data.item_shape == (48,) and data[2:5].x.shape == (3, 48)
    assert data.digest() != windows(10, seed=1).digest() and "windows" in repr(data)
    with pytest.raises(ValueError, match=r"^x must hold finite windows"):
        Series(torch.tensor([[float("nan")]]), "a", "b")
    with pytest.raises(ValueError, match=r"^data must be Series"):
        MaskedSeries(SCHEDULE).check(small(), object())


def test_crps_is_fair_and_coverage_counts():
    g = torch.Generator().manual_seed(0)
    pairs, truth = torch.randn(2, 100_000, generator=g).double(), torch.full((100_000,), 0.4).double()
    u, closed = 0.4, 0.0
    normal = torch.distributions.Normal(0.0, 1.0)
    u_t = torch.tensor(u)
    closed = float(u_t * (2 * normal.cdf(u_t) - 1) + 2 * normal.log_prob(u_t).exp() - 1 / np.sqrt(np.pi))
    found = crps(pairs, truth)
    assert float(found.mean()) == pytest.approx(closed, abs=5 * float(found.std()) / 300)
    draws = torch.randn(7, 3, generator=g).double()
    by_pairs = (draws - 0.1).abs().mean(0) - (draws[:, None] - draws).abs().sum((0, 1)) / (2 * 7 * 6)
    np.testing.assert_allclose(crps(draws, torch.full((3,), 0.1).double()), by_pairs, atol=1e-12)
    many = torch.randn(1001, 4000, generator=g)
    held = coverage(many, torch.randn(4000, generator=g), 0.9)
    assert float(held.mean()) == pytest.approx(0.9, abs=0.02)
    with pytest.raises(ValueError, match=r"^draws must hold 2 draws or more, got 1$"):
        crps(torch.zeros(1, 3), torch.zeros(3))
