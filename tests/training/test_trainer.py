import dataclasses
import math
import re
import signal
import threading

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy import stats

from diffnotes import Images, Schedule, TrainConfig, Trainer, UNet, load_model
from diffnotes.training import checkpoint, loop
from diffnotes.training import trainer as trainer_module
from diffnotes.training.loop import TrainingDiverged
from diffnotes.training.objectives import Losses


def train(trainer: Trainer, updates: int, until: int | None = None) -> Trainer:
    """Train with a budget of `updates`, and leave the loop after update `until`."""
    for state in trainer.steps(updates=updates):
        if state.update == until:
            break
    return trainer


def numbered(n: int) -> Images:
    """n images that tell their number: image i is 2 i / n - 1 everywhere, and its label is i % 10."""
    x = (2 * torch.arange(n) / n - 1).reshape(-1, 1, 1, 1).expand(n, 1, 28, 28).contiguous()
    return Images(x, torch.arange(n) % 10, "numbered", "made for this test")


def numbers(x0: torch.Tensor, n: int) -> list[int]:
    return ((x0[:, 0, 0, 0] + 1) / 2 * n).round().long().tolist()


# -- it learns ------------------------------------------------------------------------------------------------------


def test_loss_on_64_images_falls_far_below_what_any_rescaled_input_reaches(make_trainer, few):
    """eps is predicted. Answering 0 costs 1; the best multiple of x_t for each t costs 0.44 on these images."""
    network = dict(channels=16, multipliers=(1, 2), blocks=1, attention=1, patch=2)
    trainer = make_trainer(64, network=network, batch_size=16, weight_decay=0.01, gradient_clip=1.0, ema_decay=0.98)
    t = torch.arange(1, 21).repeat_interleave(16)
    x0 = few(64).x[:16].repeat(20, 1, 1, 1)
    eps = torch.randn(320, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    abar = trainer.schedule.alpha_bar[t].float().reshape(-1, 1, 1, 1)
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * eps

    def loss(model: UNet) -> float:
        with torch.no_grad():
            return (model(x_t, t) - eps).square().mean().item()

    a, b = x_t.reshape(20, -1), eps.reshape(20, -1)
    rescaled = (a * b).sum(1, keepdim=True) / (a * a).sum(1, keepdim=True) * a
    assert loss(trainer.model) == pytest.approx(1, abs=0.02)
    train(trainer, 60)
    assert loss(trainer.ema.model) < 0.6 * (rescaled - b).square().mean().item()


def test_bfloat16_learns_too_and_differs_from_float32(make_trainer):
    def losses(precision: str) -> list[float]:
        trainer = train(make_trainer(64, precision=precision), 60)
        return [state.loss for state in trainer.history]

    half, full = losses("bfloat16"), losses("float32")
    assert np.mean(half[-20:]) < 0.95 * np.mean(half[:5])
    assert half != full and half == pytest.approx(full, abs=0.03)


def test_bfloat16_keeps_weights_average_and_optimiser_in_float32(make_trainer):
    trainer = train(make_trainer(precision="bfloat16"), 3)
    kept = [*trainer.model.parameters(), *trainer.ema.model.parameters()]
    kept += [v for values in trainer.optimizer.state.values() for v in values.values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


@pytest.mark.parametrize("processor_has_it", [True, False])
def test_auto_computes_in_bfloat16_where_the_processor_does(make_trainer, monkeypatch, processor_has_it):
    monkeypatch.setattr(trainer_module, "_has_bfloat16", lambda device: processor_has_it)
    assert make_trainer(precision="auto").uses_bfloat16 is processor_has_it
    assert make_trainer(precision="float32").uses_bfloat16 is False
    assert make_trainer(precision="bfloat16").uses_bfloat16 is True


# -- one update, by hand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
@pytest.mark.parametrize("clip, min_snr", [(0.05, None), (1e6, None), (1e6, 0.5)])
def test_updates_equal_steps_written_out(make_trainer, few, target, clip, min_snr, inputs_of):
    """Loss, clipped gradient, AdamW (betas 0.9 and 0.99, eps 1e-8, decoupled decay) and average, three times, by hand."""
    # (With one channel a group, as in a narrower network, normalisation would cancel biases: their gradients would be
    # nothing but rounding, and AdamW makes steps of full size out of that.)
    network = dict(channels=16, multipliers=(1,), blocks=1, attention=0, patch=4, target=target)
    trainer = make_trainer(32, network=network, gradient_clip=clip, weight_decay=0.1, min_snr=min_snr)
    twin = make_trainer(32, network=network).model  # the same first weights
    w = [p.detach().clone() for p in twin.parameters()]
    average = [p.clone() for p in w]
    m, v = [torch.zeros_like(p) for p in w], [torch.zeros_like(p) for p in w]
    states = trainer.steps(updates=10)
    cosine = [math.cos((t / 20 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(21)]
    beta = [0.0] + [min(1 - cosine[t] / cosine[t - 1], 0.999) for t in range(1, 21)]
    abar_table = torch.tensor([math.prod(1 - b for b in beta[: t + 1]) for t in range(21)], dtype=torch.float64)

    for n in range(3):
        x0, y, t, eps = inputs_of(make_trainer(32), n)
        assert y is None
        abar = abar_table[t].reshape(-1, 1, 1, 1)
        a, b = abar.sqrt().float(), (1 - abar).sqrt().float()
        with torch.no_grad():
            for p, value in zip(twin.parameters(), w, strict=True):
                p.copy_(value)
        answer = {"eps": eps, "x0": x0, "v": a * eps - b * x0, "u": eps - x0}[target]
        errors = ((twin(a * x0 + b * eps, t) - answer) ** 2).mean(dim=(1, 2, 3))
        loss, weighted = errors.mean(), errors.mean()
        if min_snr:  # min(SNR, 0.5) before the error about x0, from which the others differ by a factor
            snr = (abar / (1 - abar)).flatten()
            of_v = 1 / (1 - abar).flatten()
            of_u = ((a + b) / b).square().flatten()
            factor = {"eps": snr, "x0": torch.ones_like(snr), "v": of_v, "u": of_u}[target]
            weighted = (snr.clamp(max=0.5) / factor * errors).mean()
            assert (weighted - loss).abs() > 0.05 * loss
        gradient = torch.autograd.grad(weighted, list(twin.parameters()))
        norm = math.sqrt(sum((g.double() ** 2).sum().item() for g in gradient))
        shorter = min(1.0, clip / norm)
        rate = 4e-3 * (n + 1) / 7 * 0.5 * (1 + math.cos(math.pi * n / 10))
        for i, g in enumerate(gradient):
            m[i] = 0.9 * m[i] + 0.1 * shorter * g
            v[i] = 0.99 * v[i] + 0.01 * (shorter * g) ** 2
            m_hat, v_hat = m[i] / (1 - 0.9 ** (n + 1)), v[i] / (1 - 0.99 ** (n + 1))
            w[i] = w[i] - rate * 0.1 * w[i] - rate * m_hat / (v_hat.sqrt() + 1e-8)
        decay = (1 + n) / (10 + n)
        average = [decay * old + (1 - decay) * new for old, new in zip(average, w, strict=True)]

        state = next(states)
        assert state.loss == pytest.approx(loss.item(), rel=1e-6)
        assert state.gradient_norm == pytest.approx(norm, rel=1e-5)
        in_tenths = [
            [e.item() for e, time in zip(errors, t.tolist(), strict=True) if 0 < time - 2 * k <= 2] for k in range(10)
        ]
        by_time = [sum(those) / len(those) if those else math.nan for those in in_tenths]  # T = 20: two times each
        assert trainer.loss_by_time[n].tolist() == pytest.approx(by_time, rel=1e-5, nan_ok=True)
        assert state.learning_rate == pytest.approx(rate, rel=1e-12)

    assert (norm > 1.01 * clip) == (clip < 1)
    moments = [trainer.optimizer.state[p] for p in trainer.model.parameters()]
    for mine, theirs in [
        (w, list(trainer.model.parameters())),
        (average, list(trainer.ema.model.parameters())),
        (m, [state["exp_avg"] for state in moments]),
        (v, [state["exp_avg_sq"] for state in moments]),
    ]:
        largest = max(value.abs().max().item() for value in mine)
        far = torch.cat([(a - b).detach().flatten().abs() for a, b in zip(mine, theirs, strict=True)]) / largest
        # measured: 4.0e-5 at a single entry, whose gradients are rounding; a thousandth of that on average
        assert far.max() < 6e-5 and far.mean() < 2e-7


def test_average_is_of_the_weights_after_each_step(make_trainer):
    trainer = make_trainer()
    average = [p.detach().clone() for p in trainer.model.parameters()]
    for n, _ in enumerate(trainer.steps(updates=5)):
        decay = (1 + n) / (10 + n)
        average = [
            decay * a + (1 - decay) * w.detach() for a, w in zip(average, trainer.model.parameters(), strict=True)
        ]
        for mine, theirs in zip(average, trainer.ema.model.parameters(), strict=True):
            assert torch.allclose(mine, theirs, rtol=0, atol=1e-6)


def test_learning_rate_rises_in_a_line_and_falls_along_a_half_cosine(make_trainer):
    rates = [state.learning_rate for state in make_trainer(warmup=7, learning_rate=4e-3).steps(updates=20)]
    expected = [4e-3 * min(1, (n + 1) / 7) * math.cos(math.pi * n / 40) ** 2 for n in range(20)]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_warm_up_the_first_learning_rate_is_the_highest(make_trainer, warmup):
    rates = [state.learning_rate for state in make_trainer(warmup=warmup).steps(updates=3)]
    assert rates == pytest.approx([4e-3, 3e-3, 1e-3], rel=1e-12)


# -- what an update sees --------------------------------------------------------------------------------------------


def test_epoch_shows_every_image_once_but_for_the_remainder(make_trainer):
    trainer = make_trainer(images=numbered(50), batch_size=8)  # 6 batches, 2 images left over
    for epoch in range(3):
        shown = [i for k in range(6) for i in numbers(trainer.batch(6 * epoch + k).x, 50)]
        assert len(shown) == 48 and len(set(shown)) == 48


def test_every_epoch_has_its_own_order(make_trainer):
    trainer = make_trainer(images=numbered(48), batch_size=8)
    orders = [tuple(i for k in range(6) for i in numbers(trainer.batch(6 * e + k).x, 48)) for e in range(10)]
    assert len(set(orders)) == 10 and tuple(range(48)) not in orders
    left_out = make_trainer(images=numbered(50), batch_size=8)
    rest = {
        frozenset(range(50)) - {i for k in range(6) for i in numbers(left_out.batch(6 * e + k).x, 50)}
        for e in range(10)
    }
    assert len(rest) > 5  # so no image is left out for ever


def test_place_of_an_image_in_the_order_is_uniform(make_trainer):
    trainer = make_trainer(images=numbered(8), batch_size=2)
    first = np.bincount([i for e in range(400) for i in numbers(trainer.batch(4 * e).x, 8)], minlength=8)
    assert stats.chisquare(first).pvalue > 1e-3


def test_batch_depends_on_seed_and_number_only(make_trainer, inputs_of):
    def equal(a, b) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    trainer, other = make_trainer(labels=True), make_trainer(labels=True)
    torch.manual_seed(99)
    later = inputs_of(train(trainer, 11), 9)  # after ten other batches, with torch's own randomness elsewhere
    assert equal(inputs_of(other, 9), later)
    assert not equal(inputs_of(make_trainer(labels=True, seed=4), 9), later)
    assert not any(torch.equal(a, b) for a, b in zip(inputs_of(other, 10), later, strict=True))


@pytest.mark.parametrize("even", [False, True])
def test_times_are_uniform_on_1_to_T(make_trainer, even, inputs_of):
    """Each of them, also where those of one batch lie evenly: only the first of each batch is counted then."""
    trainer = make_trainer(images=numbered(500), batch_size=1 if even else 500, T=10, even_times=even)
    t = torch.cat([inputs_of(trainer, n)[2] for n in range(1000 if even else 20)])
    counts = t.bincount(minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    assert stats.chisquare(counts[1:].numpy()).pvalue > 1e-3


def test_noise_is_standard_normal_and_new_in_every_update(make_trainer, inputs_of):
    trainer = make_trainer(images=numbered(64), batch_size=64)
    eps = torch.stack([inputs_of(trainer, n)[3] for n in range(4)]).double()
    values = eps.flatten()
    assert stats.kstest(values.numpy(), "norm").pvalue > 1e-3
    unlike = torch.corrcoef(eps.reshape(4, -1)).fill_diagonal_(0).abs().max().item()  # of different updates
    assert unlike < 5 / math.sqrt(64 * 784)
    neighbours = (eps[..., 1:] * eps[..., :-1]).mean().item()  # of pixels side by side
    images = (eps[:, 1:] * eps[:, :-1]).mean().item()  # of different images
    assert abs(neighbours) < 5 / math.sqrt(values.numel()) and abs(images) < 5 / math.sqrt(values.numel())


def test_streams_of_neighbouring_seeds_are_unrelated(make_trainer, inputs_of):
    # were the stream of update n seeded by seed + n, update n of seed s + 1 would be update n + 1 of seed s
    batches = {seed: [inputs_of(make_trainer(seed=seed), n)[3] for n in range(3)] for seed in (0, 1, 2)}
    all_of_them = torch.stack([eps.flatten() for each in batches.values() for eps in each])
    assert torch.corrcoef(all_of_them).fill_diagonal_(0).abs().max().item() < 6 / math.sqrt(all_of_them.shape[1])


def test_labels_are_dropped_with_their_probability_and_kept_as_they_were(make_trainer, inputs_of):
    trainer = make_trainer(images=numbered(200), batch_size=200, labels=True, label_dropout=0.3)
    dropped = 0
    for n in range(20):
        x0, y, _, _ = inputs_of(trainer, n)
        kept = y != 10
        dropped += int((~kept).sum())
        assert y[kept].tolist() == [i % 10 for i, k in zip(numbers(x0, 200), kept, strict=True) if k]
    assert stats.binomtest(dropped, 4000, 0.3).pvalue > 1e-3


@pytest.mark.parametrize("dropout, expected", [(0.0, False), (1.0, True)])
def test_label_dropout_of_0_keeps_all_and_of_1_none(make_trainer, dropout, expected, inputs_of):
    trainer = make_trainer(images=numbered(200), batch_size=200, labels=True, label_dropout=dropout)
    assert (inputs_of(trainer, 0)[1] == 10).unique().tolist() == [expected]


def test_network_without_classes_gets_no_labels_and_the_same_rest(make_trainer, inputs_of):
    with_labels, without = inputs_of(make_trainer(labels=True), 5), inputs_of(make_trainer(labels=False), 5)
    assert without[1] is None
    assert all(torch.equal(with_labels[i], without[i]) for i in (0, 2, 3))


def test_labels_reach_the_network(make_trainer, inputs_of):
    trainer = make_trainer(labels=True, label_dropout=0.0)
    first = trainer.model.label.weight.detach().clone()
    seen = sorted({label for n in range(2) for label in inputs_of(trainer, n)[1].tolist()})
    for p in trainer.model.parameters():  # (zero-initialised layers let no gradient through in the first update)
        torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(0))
    first = trainer.model.label.weight.detach().clone()
    train(trainer, 1000, until=2)
    decayed = trainer.optimizer.state[trainer.model.label.weight]["exp_avg"].abs().sum(1) > 0
    assert decayed.nonzero().flatten().tolist() == seen and not torch.equal(first, trainer.model.label.weight)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch_without_overlap(make_trainer, monkeypatch, processes, inputs_of):
    whole = inputs_of(make_trainer(labels=True), 3)
    trainer, shares = make_trainer(labels=True), []
    monkeypatch.setattr(Accelerator, "num_processes", processes)
    for index in range(processes):
        monkeypatch.setattr(Accelerator, "process_index", index)
        shares.append(inputs_of(trainer, 3))
    assert all(torch.equal(torch.cat(parts), all_of_it) for *parts, all_of_it in zip(*shares, whole, strict=True))


def test_loss_by_time_is_of_the_images_of_all_processes(make_trainer, monkeypatch):
    trainer = make_trainer(T=20)
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    other = torch.tensor([[0.0, 9.0], [9.0, 1.0], [5.0, 5.0]])  # tenths and errors of the other process
    monkeypatch.setattr(trainer.accelerator, "gather", lambda mine: torch.cat([mine, other]))
    errors = torch.tensor([3.0, 4.0, 2.0])
    by_time = trainer._by_time(Losses(2 * errors, {"error": errors}, torch.tensor([0, 1, 9])))
    expected = [6.0, 4.0, *[math.nan] * 3, 5.0, *[math.nan] * 3, 1.5]
    assert by_time.tolist() == pytest.approx(expected, nan_ok=True)


def test_batch_that_processes_cannot_share_equally_is_refused(make_trainer, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(ValueError, match=r"^batch_size must be divisible by the 3 processes, got 8$"):
        make_trainer(batch_size=8)


# -- stopping and going on ------------------------------------------------------------------------------------------


def test_same_seed_same_run(make_trainer, run_of, same_run):
    same_run(run_of(train(make_trainer(), 10)), run_of(train(make_trainer(), 10)))


def test_different_seeds_different_runs(make_trainer):
    a, b = (train(make_trainer(seed=seed), 10) for seed in (1, 2))
    assert all(x.loss != y.loss for x, y in zip(a.history, b.history, strict=True))


@pytest.mark.parametrize("n, stop", [(64, 20), (20, 20), (20, 21), (64, 1), (8, 39)])
def test_run_saved_and_loaded_goes_on_as_if_nothing_had_been(make_trainer, run_of, same_run, few, tmp_path, n, stop):
    """64 images are 8 updates an epoch, 20 are 2, 8 are 1; it stops at the end of an epoch and within one."""
    whole = train(make_trainer(n, labels=True), 40)
    train(make_trainer(n, labels=True), 40, until=stop).save(tmp_path)
    loaded = Trainer.load(tmp_path, few(n))
    assert len(loaded.history) == stop
    train(loaded, 40)
    same_run(run_of(loaded), run_of(whole))


def test_run_that_was_only_left_goes_on_as_if_nothing_had_been(make_trainer, run_of, same_run):
    same_run(run_of(train(train(make_trainer(), 20, until=9), 20)), run_of(train(make_trainer(), 20)))


def test_run_can_be_saved_before_its_first_update(make_trainer, run_of, same_run, few, tmp_path):
    make_trainer().save(tmp_path)
    same_run(run_of(train(Trainer.load(tmp_path, few(64)), 5)), run_of(train(make_trainer(), 5)))


def test_saving_changes_nothing(make_trainer, run_of, same_run, tmp_path):
    trainer = make_trainer()
    for _ in trainer.steps(updates=6):
        trainer.save(tmp_path)
    same_run(run_of(trainer), run_of(train(make_trainer(), 6)))


def test_loaded_run_has_all_settings_times_and_history(make_trainer, few, tmp_path):
    trainer = train(make_trainer(labels=True), 6)
    trainer.save(tmp_path)
    loaded = Trainer.load(tmp_path, few(64))
    assert loaded.config == trainer.config and loaded.model.settings == trainer.model.settings
    assert loaded.history == trainer.history and (loaded.update, loaded.seconds) == (6, trainer.seconds)
    assert all(isinstance(state.update, int) and isinstance(state.images, int) for state in loaded.history)
    assert np.array_equal(loaded.loss_by_time, trainer.loss_by_time, equal_nan=True) and len(loaded.loss_by_time) == 6
    assert torch.equal(loaded.schedule.beta, trainer.schedule.beta) and loaded.schedule.name == trainer.schedule.name


def test_images_are_fetched_by_name_when_none_are_given(make_trainer, digits, tmp_path):
    make_trainer(images=digits).save(tmp_path)
    loaded = Trainer.load(tmp_path)
    assert torch.equal(loaded.data.x, digits.x) and torch.equal(loaded.data.y, digits.y)


@pytest.mark.parametrize("n, changed", [(63, None), (65, None), (64, 17)])
def test_other_images_than_those_of_the_run_are_refused(make_trainer, few, tmp_path, n, changed):
    make_trainer(64).save(tmp_path)
    images = few(n)
    if changed is not None:
        images = dataclasses.replace(images, x=images.x.clone())
        images.x[changed, 0, 14, 14] += 1e-3
    message = f"{tmp_path} was trained on 64 images of digits, got {images!r}: other sha256"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}(, labels_sha256)?$"):
        Trainer.load(tmp_path, images)


def test_load_model_gives_the_averaged_network_and_the_schedule(make_trainer, tmp_path):
    trainer = train(make_trainer(labels=True), 6)
    trainer.save(tmp_path)
    model, schedule = load_model(tmp_path)
    average, last = trainer.ema.model.state_dict(), trainer.model.state_dict()
    assert model.state_dict().keys() == average.keys()
    assert all(torch.equal(value, average[name]) for name, value in model.state_dict().items())
    assert not all(torch.equal(value, last[name]) for name, value in model.state_dict().items())
    assert (schedule.name, schedule.T) == ("cosine", 20)
    assert torch.equal(schedule.beta, trainer.schedule.beta) and torch.equal(
        schedule.alpha_bar, trainer.schedule.alpha_bar
    )
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert model.middle.conv_1.weight.is_contiguous(memory_format=torch.channels_last)  # quick to sample from
    x, t = torch.randn(3, 1, 28, 28), torch.tensor([1, 10, 20])
    assert torch.allclose(model(x, t), trainer.ema.model(x, t), atol=1e-5)


def test_schedule_of_ones_own_is_kept(few, tmp_path):
    own = Schedule.from_alpha_bar([0.9, 0.5, 0.1, 0.0], name="mine")
    Trainer(UNet(channels=8, multipliers=(1,), attention=0, target="v"), own, few(64)).save(tmp_path)
    _, schedule = load_model(tmp_path)
    assert schedule.alpha_bar.tolist() == [1, 0.9, 0.5, 0.1, 0] and schedule.name == "mine"


def test_damaged_run_is_refused_by_name(make_trainer, few, tmp_path):
    path = make_trainer().save(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=re.escape(str(path))):
        Trainer.load(tmp_path, few(64))
    with pytest.raises(checkpoint.CheckpointError, match=re.escape(str(path))):
        load_model(tmp_path)


# -- the budget -----------------------------------------------------------------------------------------------------


def test_budget_in_updates_counts_from_the_beginning_of_the_run(make_trainer):
    trainer = make_trainer()
    assert [state.update for state in trainer.steps(updates=3)] == [1, 2, 3]
    assert [state.update for state in trainer.steps(updates=5)] == [4, 5]
    assert [state.images for state in trainer.history] == [8, 16, 24, 32, 40]
    assert [state.progress for state in trainer.history] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 5, 1])


@pytest.mark.parametrize("budget", [{"updates": 3}, {"updates": 2}, {"seconds": 1e-9}])
def test_budget_already_reached_yields_nothing_and_changes_nothing(make_trainer, run_of, same_run, budget):
    trainer = train(make_trainer(), 3)
    before = run_of(trainer)
    assert list(trainer.steps(**budget)) == []
    same_run(run_of(trainer), before)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told: every update takes `clock.update` seconds, the caller takes what it likes."""

    class Clock:
        now, update = 1000.0, 1.0

        def perf_counter(self) -> float:
            return self.now

    clock, original = Clock(), Trainer._update

    def update(self: Trainer, progress: float):
        clock.now += clock.update
        return original(self, progress)

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(Trainer, "_update", update)
    return clock


def test_budget_in_seconds_counts_training_and_not_the_callers_time(make_trainer, clock):
    trainer, seconds, progress = make_trainer(), [], []
    for state in trainer.steps(seconds=4.5):
        clock.now += 100  # the caller draws a picture
        seconds.append(state.seconds)
        progress.append(state.progress)
    assert seconds == [1, 2, 3, 4, 5] and progress == pytest.approx([1 / 4.5, 2 / 4.5, 3 / 4.5, 4 / 4.5, 1])


def test_budget_in_seconds_counts_from_the_beginning_of_a_run_that_was_loaded(make_trainer, few, clock, tmp_path):
    trainer = make_trainer()
    next(iter(trainer.steps(seconds=3.0)))
    trainer.save(tmp_path)
    loaded = Trainer.load(tmp_path, few(64))
    assert [state.seconds for state in loaded.steps(seconds=3.0)] == [2, 3]


def test_learning_rate_falls_over_the_seconds(make_trainer, clock):
    rates = [state.learning_rate for state in make_trainer(warmup=0).steps(seconds=10.0)]
    assert rates == pytest.approx([4e-3 * math.cos(math.pi * n / 20) ** 2 for n in range(10)], rel=1e-12)


@pytest.mark.parametrize("budget", [{}, {"updates": 3, "seconds": 3.0}])
def test_budget_is_either_in_updates_or_in_seconds(make_trainer, budget):
    got = f"updates={budget.get('updates')}, seconds={budget.get('seconds')}"
    with pytest.raises(ValueError, match=f"^give a budget either in updates or in seconds, got {got}$"):
        make_trainer().steps(**budget)


@pytest.mark.parametrize(
    "budget, message",
    [
        ({"updates": 0}, "updates must be an integer >= 1, got 0"),
        ({"updates": -1}, "updates must be an integer >= 1, got -1"),
        ({"updates": 2.5}, "updates must be an integer >= 1, got 2.5"),
        ({"seconds": 0.0}, "seconds must be a positive number, got 0.0"),
        ({"seconds": -2.5}, "seconds must be a positive number, got -2.5"),
        ({"seconds": math.nan}, "seconds must be a positive number, got nan"),
        ({"seconds": "180"}, "seconds must be a positive number, got '180'"),
    ],
)
def test_budget_must_be_a_positive_number(make_trainer, budget, message, as_installed):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_trainer().steps(**budget)


def test_budget_may_be_a_number_of_numpys(make_trainer, as_installed):
    assert len(list(make_trainer().steps(updates=np.int64(3)))) == 3
    assert next(make_trainer().steps(seconds=np.float32(60))).update == 1


# -- when it goes wrong ---------------------------------------------------------------------------------------------


def assert_diverges(trainer: Trainer, after: int, run_of, same_run, tmp_path, images: Images) -> Trainer:
    """The next update raises TrainingDiverged and changes nothing; the run can be saved, and is returned loaded again."""
    before = run_of(trainer)
    with pytest.raises(
        TrainingDiverged, match=rf"^update {after + 1}: .* those after update {after}, the last good ones"
    ):
        list(trainer.steps(updates=50))
    same_run(run_of(trainer), before)
    assert all(p.grad is None for p in trainer.model.parameters())
    trainer.save(tmp_path)
    loaded = Trainer.load(tmp_path, images)
    same_run(run_of(loaded), before)
    return loaded


def test_image_that_is_no_number_stops_the_training_at_its_update(
    make_trainer, few, run_of, same_run, tmp_path, inputs_of
):
    good = make_trainer(64)
    poisoned = dataclasses.replace(few(64), x=few(64).x.clone())
    n = 5
    x0 = inputs_of(good, n)[0]
    i = next(i for i in range(64) if torch.equal(few(64).x[i], x0[3]))  # this image comes in the sixth update
    poisoned.x[i, 0, 10, 10] = math.nan
    trainer = make_trainer(images=poisoned)
    train(trainer, 50, until=n)
    assert_diverges(trainer, n, run_of, same_run, tmp_path, poisoned)
    same_run(run_of(trainer), run_of(train(good, 50, until=n)))


def test_gradient_that_is_no_number_stops_the_training_and_it_can_go_on(make_trainer, few, run_of, same_run, tmp_path):
    trainer = train(make_trainer(), 50, until=4)
    hook = trainer.model.first.weight.register_hook(lambda gradient: gradient * math.inf)
    loaded = assert_diverges(trainer, 4, run_of, same_run, tmp_path, few(64))
    hook.remove()
    whole = run_of(train(make_trainer(), 50, until=8))
    same_run(run_of(train(trainer, 50, until=8)), whole)
    same_run(run_of(train(loaded, 50, until=8)), whole)


def test_weight_that_is_infinite_stops_the_training_and_the_average_is_still_good(
    make_trainer, few, run_of, same_run, tmp_path
):
    trainer = train(make_trainer(), 50, until=4)
    average = run_of(train(make_trainer(), 50, until=4))
    with torch.no_grad():
        trainer.model.first.bias[0] = math.inf
    assert_diverges(trainer, 4, run_of, same_run, tmp_path, few(64))
    model, _ = load_model(tmp_path)
    assert all(torch.equal(value, average[f"ema {name}"]) for name, value in model.state_dict().items())


def test_divergence_names_the_loss_and_the_way_out(make_trainer):
    trainer = make_trainer(learning_rate=0.02)
    with torch.no_grad():
        trainer.model.first.bias[0] = math.nan
    message = (
        "update 1: the loss is nan, the gradient's norm nan. The weights are those after update 0, the last good ones; "
        "save them, or start again with a smaller learning_rate than 0.02"
    )
    with pytest.raises(TrainingDiverged, match=f"^{re.escape(message)}$"):
        list(trainer.steps(updates=3))


@pytest.fixture
def default_interrupts():
    """Python's own answer to Ctrl-C, whatever the tests were started from."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_in_update(trainer: Trainer, n: int, monkeypatch) -> None:
    """Have an interrupt arrive in the middle of update n."""
    step = trainer.optimizer.step

    def step_with_interrupt() -> None:
        if trainer.update == n - 1:
            signal.raise_signal(signal.SIGINT)
        step()

    monkeypatch.setattr(trainer.optimizer, "step", step_with_interrupt)


def test_interrupt_ends_the_loop_after_the_whole_update(
    make_trainer, run_of, same_run, monkeypatch, default_interrupts
):
    trainer = make_trainer()
    interrupted_in_update(trainer, 5, monkeypatch)
    states = list(trainer.steps(updates=20))
    assert len(states) == 5 and trainer.interrupted
    same_run(run_of(trainer), run_of(train(make_trainer(), 20, until=5)))


def test_interrupted_run_goes_on_as_if_nothing_had_been(
    make_trainer, run_of, same_run, monkeypatch, default_interrupts
):
    trainer = make_trainer()
    interrupted_in_update(trainer, 5, monkeypatch)
    train(trainer, 20)
    train(trainer, 20)
    assert not trainer.interrupted
    same_run(run_of(trainer), run_of(train(make_trainer(), 20)))


def test_interrupt_between_updates_is_the_callers_and_the_run_can_go_on(
    make_trainer, run_of, same_run, default_interrupts
):
    trainer = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        for state in trainer.steps(updates=20):
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if state.update == 5:
                signal.raise_signal(signal.SIGINT)
    same_run(run_of(train(trainer, 20)), run_of(train(make_trainer(), 20)))


def test_interrupt_that_the_caller_holds_back_ends_the_loop_as_well(make_trainer, default_interrupts):
    trainer = make_trainer()
    with loop.defer_interrupts():
        for state in trainer.steps(updates=20):
            if state.update == 5:
                signal.raise_signal(signal.SIGINT)
    assert trainer.update == 6 and trainer.interrupted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_are_python_s_own_again_after_a_failure(make_trainer, default_interrupts):
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model.first.bias[0] = math.nan
    with pytest.raises(TrainingDiverged):
        list(trainer.steps(updates=3))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_in_another_thread_is_the_same(make_trainer, run_of, same_run):
    trainer = make_trainer()
    failures = []

    def work() -> None:
        torch.set_num_threads(1)
        try:
            train(trainer, 10)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    same_run(run_of(trainer), run_of(train(make_trainer(), 10)))


# -- wrong arguments ------------------------------------------------------------------------------------------------


def test_batch_larger_than_the_images_is_refused(few):
    message = r"^batch_size must be at most the number of images, 10, got 11$"
    model = UNet(channels=8, multipliers=(1,), attention=0)
    with pytest.raises(ValueError, match=message):
        Trainer(model, Schedule.linear(10), few(10), TrainConfig(batch_size=11))
    Trainer(model, Schedule.linear(10), few(10), TrainConfig(batch_size=10))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(seed=-1), "seed must be an integer >= 0, got -1"),
        (dict(batch_size=0), "batch_size must be an integer >= 1, got 0"),
        (dict(learning_rate=0.0), "learning_rate must be a positive number, got 0.0"),
        (dict(learning_rate=math.nan), "learning_rate must be a positive number, got nan"),
        (dict(warmup=-1), "warmup must be an integer >= 0, got -1"),
        (dict(weight_decay=-0.5), "weight_decay must be a number >= 0, got -0.5"),
        (dict(gradient_clip=0.0), "gradient_clip must be a positive number, got 0.0"),
        (dict(ema_decay=1.0), "ema_decay must lie in [0, 1), got 1.0"),
        (dict(batch_size=8.0), "batch_size must be an integer >= 1, got 8.0"),
        (dict(batch_size=True), "batch_size must be an integer >= 1, got True"),
        (dict(seed="0"), "seed must be an integer >= 0, got '0'"),
        (dict(learning_rate="1e-3"), "learning_rate must be a positive number, got '1e-3'"),
        (dict(gradient_clip=None), "gradient_clip must be a positive number, got None"),
        (dict(precision="float16"), 'precision must be one of "auto", "float32", "bfloat16", got \'float16\''),
    ],
)
def test_wrong_setting_is_refused(settings, message, as_installed):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TrainConfig(**settings)


@pytest.mark.parametrize("optimizer, kind", [("muon", "Muon"), ("adamw", "AdamW")])
def test_the_optimiser_is_the_one_asked_for_and_learns(make_trainer, optimizer, kind):
    network = dict(channels=16, multipliers=(1,), blocks=1, attention=0, patch=4)
    trainer = make_trainer(64, network=network, optimizer=optimizer)
    assert type(trainer.optimizer).__name__ == kind
    losses = [state.loss for state in train(trainer, 60).history]
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:5])


def test_a_run_with_muon_goes_on_to_the_last_bit(make_trainer, run_of, same_run, tmp_path):
    network = dict(channels=16, multipliers=(1,), blocks=1, attention=0, patch=4)
    whole = train(make_trainer(64, network=network, optimizer="muon"), 8)
    train(make_trainer(64, network=network, optimizer="muon"), 8, until=5).save(tmp_path)
    assert any(key.endswith(".momentum") for key in trainer_module.checkpoint.read(tmp_path)[0])
    again = Trainer.load(tmp_path, whole.data)
    same_run(run_of(train(again, 8)), run_of(whole))


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match='optimizer must be "muon" or "adamw", got \'sgd\''):
        TrainConfig(optimizer="sgd")


@pytest.mark.parametrize("size, T", [(8, 20), (32, 1000), (30, 7)])
def test_times_of_a_batch_lie_evenly(make_trainer, size, T, inputs_of):
    """Between any two neighbours of a batch, on the circle of times, lie T / size steps."""
    t = inputs_of(make_trainer(64, T=T, batch_size=size, even_times=True), 3)[2].sort().values
    gaps = torch.cat([t[1:] - t[:-1], t[:1] + T - t[-1:]])
    assert gaps.sum() == T and (gaps - T / size).abs().max() < 1


def test_numbers_of_numpy_are_taken_like_pythons(make_trainer, tmp_path, few, as_installed):
    config = TrainConfig(seed=np.int64(3), batch_size=np.int32(8), learning_rate=np.float32(0.5), warmup=np.uint8(7))
    assert config == TrainConfig(seed=3, batch_size=8, learning_rate=0.5, warmup=7)
    assert [type(v) for v in (config.seed, config.batch_size, config.learning_rate)] == [int, int, float]
    trainer = make_trainer(8, seed=np.int64(3), batch_size=np.int64(8), ema_decay=np.float64(0.9))
    trainer.save(tmp_path)
    assert Trainer.load(tmp_path, few(8)).config == trainer.config


def test_a_run_older_than_some_settings_goes_on_as_it_began(make_trainer, run_of, same_run, tmp_path):
    """A checkpoint as the first edition wrote it: settings of the loss in its config, or not yet there at all."""
    old = dict(optimizer="adamw", min_snr=None, even_times=False)
    whole = train(make_trainer(64, labels=True, **old), 8)
    train(make_trainer(64, labels=True, **old), 8, until=5).save(tmp_path)
    tensors, metadata = checkpoint.read(tmp_path)
    del metadata["config"]["optimizer"], tensors["loss_by_time"]
    metadata["config"]["label_dropout"] = metadata["objective"]["settings"]["label_dropout"]
    metadata["schedule"] = metadata["objective"]["settings"]["schedule"]["schedule"]
    for name in ("objective", "model_class", "parts"):
        del metadata[name]
    for name in ("item_shape", "classes", "load"):
        del metadata["images"][name]
    tensors["history"] = tensors["history"][:, :7]
    checkpoint.write(tmp_path, tensors, metadata)
    again = Trainer.load(tmp_path, whole.data)
    assert again.objective.label_dropout == 0.3 and again.schedule.name == "cosine"
    assert all(np.isnan(row).all() for row in again.loss_by_time)
    finished, expected = run_of(train(again, 8)), run_of(whole)
    for run in (finished, expected):
        run["history"] = [dataclasses.replace(state, parts={}) for state in run["history"]]
    same_run(finished, expected)
