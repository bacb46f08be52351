"""Muon against its definition, torch's own Muon and AdamW."""

import math

import pytest
import torch

from diffnotes.training.muon import Muon, muon_groups, orthogonalize


@pytest.mark.parametrize("rows, columns", [(20, 20), (20, 70), (70, 20)])
def test_orthogonal_keeps_the_directions_and_evens_out_the_sizes(rows, columns, generator):
    m = torch.randn(rows, columns, generator=generator)
    U, S, V = torch.linalg.svd(m.double(), full_matrices=False)
    after = U.T @ orthogonalize(m).double() @ V.T
    sizes = after.diagonal()
    assert (after - sizes.diag()).abs().max() < 1e-4  # the same directions
    assert sizes[S > 0.05 * S.norm()].min() > 0.6 and sizes.max() < 1.3
    assert S.max() / S.min() > 3 * sizes.max() / sizes.min() or rows != columns


def test_orthogonal_does_not_ask_how_large_the_matrix_is(generator):
    m = torch.randn(16, 30, generator=generator)
    torch.testing.assert_close(orthogonalize(m), orthogonalize(1e-5 * m), rtol=1e-3, atol=1e-4)
    assert torch.equal(orthogonalize(torch.zeros(16, 30)), torch.zeros(16, 30))


def test_two_steps_written_out(generator):
    """M <- mu M + (1 - mu) G, W <- (1 - lr decay) W - 0.2 lr sqrt(max(rows, columns)) orthogonalize(mu M + (1 - mu) G)."""
    kernel = torch.nn.Parameter(torch.randn(16, 4, 3, 3, generator=generator))
    optimizer = Muon([kernel], lr=0.03, momentum=0.8, weight_decay=0.5)
    w, M = kernel.detach().clone(), torch.zeros(16, 36)
    for _ in range(2):
        gradient = torch.randn(kernel.shape, generator=generator)
        kernel.grad = gradient.clone()
        optimizer.step()
        G = gradient.reshape(16, 36)
        M = 0.8 * M + 0.2 * G
        w = (1 - 0.03 * 0.5) * w - 0.2 * 0.03 * 6 * orthogonalize(0.8 * M + 0.2 * G).reshape(w.shape)
        torch.testing.assert_close(kernel.detach(), w, rtol=1e-5, atol=1e-6)
        assert torch.equal(kernel.grad, gradient)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_a_matrix_moves_as_with_torchs_muon(shape, generator):
    """torch's computes in bfloat16: hence the tolerance."""
    start = torch.randn(shape, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = Muon([ours], lr=0.1, momentum=0.9, weight_decay=0.2)
    other = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        for weight, optimizer in ((ours, mine), (theirs, other)):
            weight.grad = gradient.clone()
            optimizer.step()
    assert (ours - start).norm() > 0.1
    assert (ours - theirs).norm() < 0.03 * (ours - start).norm()


@pytest.mark.parametrize("shape", [(7,), (15, 40), (40, 15), (8, 2, 3, 3)])
def test_all_that_is_no_large_matrix_moves_as_with_adamw(shape, generator):
    start = torch.randn(shape, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = Muon([ours], lr=0.1, betas=(0.8, 0.95), weight_decay=0.2)
    other = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.95), weight_decay=0.2)
    for _ in range(4):
        gradient = torch.randn(shape, generator=generator)
        for weight, optimizer in ((ours, mine), (theirs, other)):
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_step_is_as_long_as_one_of_adamw(generator):
    """The root of the mean squared change of an entry is about 0.2 lr."""
    weight = torch.nn.Parameter(torch.randn(64, 96, generator=generator))
    before = weight.detach().clone()
    weight.grad = torch.randn(weight.shape, generator=generator)
    Muon([weight], lr=0.01, weight_decay=0.0).step()
    assert math.sqrt((weight - before).square().mean().item()) == pytest.approx(0.2 * 0.01, rel=0.25)


def test_weights_without_a_gradient_stay_and_a_closure_is_called(generator):
    used, unused = (torch.nn.Parameter(torch.randn(16, 16, generator=generator)) for _ in range(2))
    before = unused.detach().clone()
    optimizer = Muon([used, unused], lr=0.05)

    def closure():
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    first = optimizer.step(closure).item()
    assert first > closure().item() and torch.equal(unused, before)


class Named(torch.nn.Module):
    """Two square matrices, of which it says that one is for Muon."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.block, self.embedding = torch.nn.Linear(20, 20, bias=False), torch.nn.Linear(20, 20, bias=False)
        self.names = names

    def muon_parameters(self):
        return self.names


def test_a_model_may_name_what_is_for_muon(generator):
    model = Named("block.weight")
    optimizer = Muon(muon_groups(model), lr=0.01)
    for weight in model.parameters():
        weight.grad = torch.randn(20, 20, generator=generator)
    optimizer.step()
    assert set(optimizer.state[model.block.weight]) == {"momentum"}
    assert set(optimizer.state[model.embedding.weight]) == {"step", "exp_avg", "exp_avg_sq"}


def test_a_name_that_is_none_of_the_models_weights_is_refused():
    with pytest.raises(
        ValueError, match=r"^muon_parameters\(\) must name weights of the model, got 'blok', which is none$"
    ):
        muon_groups(Named("blok"))


@pytest.mark.parametrize("says_none", [False, True])
def test_where_nothing_is_named_the_shape_decides(says_none, generator):
    model = torch.nn.Sequential(torch.nn.Linear(20, 20), torch.nn.Linear(20, 3))
    if says_none:
        model.muon_parameters = None
    optimizer = Muon(muon_groups(model), lr=0.01)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()
    assert ["momentum" in optimizer.state[weight] for weight in model.parameters()] == [True, False, False, False]
