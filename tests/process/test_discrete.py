"""Diffusion of tokens: against listed paths, masks and orders; what its samplers draw; and slips in it, each refuted."""

import itertools
import math
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
import torch
from slips import refuted_by, slipped

from diffnotes.book.proof.chain import Distribution
from diffnotes.process import discrete
from diffnotes.process.exact_words import LanguageDenoiser

SENTENCES = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 2, 1], [1, 0, 0], [2, 2, 2], [2, 0, 2], [1, 1, 0]])
PERFECT = LanguageDenoiser(SENTENCES, 3)
TABLE = torch.randn(4**3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def wrong_net(tokens, y=None):
    return TABLE[(tokens * torch.tensor([16, 4, 1])).sum(1)]


def kernels(number: int, seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 3, generator=g, dtype=torch.float64).softmax(-1) for _ in range(number)]


# -- chains -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [discrete.uniform_matrix, discrete.absorbing_matrix])
def test_many_steps_are_one_with_alpha_bar(matrix):
    betas = [0.1, 0.3, 0.05, 0.9]
    steps = torch.linalg.multi_dot([matrix(beta, 4) for beta in betas])
    torch.testing.assert_close(steps, matrix(1 - math.prod(1 - beta for beta in betas), 4))


def test_the_mask_is_never_left_and_uniform_noise_ends_uniform():
    assert discrete.absorbing_matrix(0.3, 4)[4].tolist() == [0, 0, 0, 0, 1]
    torch.testing.assert_close(discrete.uniform_matrix(1, 4), torch.full((4, 4), 0.25, dtype=torch.float64))


def test_letters_are_drawn_from_their_rows(generator):
    Q = kernels(1)[0]
    x = discrete.forward_tokens(torch.full((200, 100), 2), Q, generator)
    share = torch.bincount(x.flatten(), minlength=3) / x.numel()
    assert ((share - Q[2]).abs() < 5 * (Q[2] * (1 - Q[2]) / x.numel()).sqrt()).all()
    assert x.shape == (200, 100)


def posterior_by_paths(module: ModuleType) -> None:
    steps = kernels(3)
    q = Distribution.forward([1 / 3] * 3, [k.numpy() for k in steps])
    listed = np.broadcast_to(q("x2 | x0, x3"), (3, 1, 3, 3))[:, 0].astype(float)  # x0, x2, x3
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    ours = module.categorical_posterior(steps[2], steps[0] @ steps[1], pairs[:, 0], pairs[:, 1])
    assert np.allclose(ours.numpy().reshape(3, 3, 3), listed.transpose(0, 2, 1), atol=1e-12)


def bound_by_paths(module: ModuleType) -> None:
    steps, back, prior = kernels(3), kernels(3, 1), kernels(1, 2)[0][0]
    bound = module.chain_bound(steps, back, prior).sum(0)
    for x0 in range(3):
        total = 0.0
        for path in itertools.product(range(3), repeat=3):
            states = (x0, *path)
            q = math.prod(float(steps[t][states[t], states[t + 1]]) for t in range(3))
            p = float(prior[states[3]]) * math.prod(float(back[t][states[t + 1], states[t]]) for t in range(3))
            total += q * math.log(q / p)
        assert bound[x0].item() == pytest.approx(total, abs=1e-10)


def test_the_posterior_and_the_bound_are_those_of_all_paths():
    posterior_by_paths(discrete)
    bound_by_paths(discrete)


def test_the_bound_is_tight_for_the_true_steps_back():
    steps = kernels(3)
    q = Distribution.forward([1, 0, 0], [k.numpy() for k in steps])
    back = [torch.tensor(q(f"x{t - 1} | x{t}").astype(float).squeeze()) for t in (2, 3)]
    back = [torch.eye(3, dtype=torch.float64)[[0, 0, 0]], *(P.T for P in back)]
    prior = torch.tensor(q("x3").astype(float).squeeze())
    bound, exact = discrete.chain_bound(steps, back, prior).sum(0), -discrete.chain_likelihood(back, prior)
    assert bound[0].item() == pytest.approx(exact[0].item(), abs=1e-10) == pytest.approx(0, abs=1e-10)


# -- masks --------------------------------------------------------------------------------------------------------------


def masks_are_even(module: ModuleType) -> None:
    hidden = module.random_masks(torch.full((12_000,), 2), 4, torch.Generator().manual_seed(0))
    assert (hidden.sum(1) == 2).all()
    counts = torch.bincount((hidden * torch.tensor([1, 2, 4, 8])).sum(1), minlength=16)
    found = counts[counts > 0]
    assert len(found) == 6 and ((found - 2000).abs() < 5 * math.sqrt(2000)).all()


def bound_by_orders(module: ModuleType) -> None:
    for x in SENTENCES[:4]:
        costs = []
        for order in itertools.permutations(range(3)):
            tokens, cost = torch.full((1, 3), 3), 0.0
            for i in order:
                cost -= float(wrong_net(tokens).log_softmax(-1)[0, i, x[i]])
                tokens[0, i] = x[i]
            costs.append(cost)
        assert module.masked_bound(wrong_net, x[None]).item() == pytest.approx(np.mean(costs), abs=1e-10)


def test_masks_are_even_and_the_bound_is_the_mean_over_all_orders():
    masks_are_even(discrete)
    bound_by_orders(discrete)


def test_a_sentence_of_the_perfect_model_costs_the_log_of_its_share():
    unique, counts = SENTENCES.unique(dim=0, return_counts=True)
    bound = discrete.masked_bound(PERFECT, unique)
    torch.testing.assert_close(bound, -(counts / len(SENTENCES)).double().log(), atol=1e-5, rtol=0)


# -- drawing ------------------------------------------------------------------------------------------------------------


def drawn(order: str, calls: int, module: ModuleType = discrete, number: int = 8000) -> np.ndarray:
    """The shares of the 27 sentences."""
    start = torch.full((number, 3), 3)
    *_, last = module.unmask(PERFECT, start, calls, order, generator=torch.Generator().manual_seed(5))
    code = (last.tokens * torch.tensor([9, 3, 1])).sum(1)
    return torch.bincount(code, minlength=27).numpy() / number


def exact() -> np.ndarray:
    return torch.bincount((SENTENCES * torch.tensor([9, 3, 1])).sum(1), minlength=27).numpy() / len(SENTENCES)


def far(shares: np.ndarray, expected: np.ndarray, number: int = 8000) -> bool:
    return bool((np.abs(shares - expected) > 5 * np.sqrt(expected * (1 - expected) / number) + 1e-9).any())


def test_one_letter_a_call_draws_the_sentences_unless_the_draw_decides():
    for order in ("random", "left", "entropy"):
        assert not far(drawn(order, 3), exact())
    assert far(drawn("surest", 3), exact())


def test_all_at_once_draws_the_product_of_the_columns():
    columns = [np.bincount(SENTENCES[:, i], minlength=3) / len(SENTENCES) for i in range(3)]
    product = np.einsum("i,j,k->ijk", *columns).ravel()
    for order in discrete.ORDERS:
        assert not far(drawn(order, 1), product)


def test_ancestral_sampling_reveals_every_mask_in_an_even_step():
    start = torch.full((4000, 3), 3)
    drafts = list(discrete.unmask(PERFECT, start, 4, "ancestral", generator=torch.Generator().manual_seed(0)))
    shares = [draft.revealed.double().mean().item() for draft in drafts[1:]]
    assert shares == pytest.approx([0.25] * 4, abs=0.02) and (drafts[-1].tokens < 3).all()


@pytest.mark.parametrize("order", ["random", "left", "surest", "entropy"])
def test_portions_are_even_and_what_stands_there_stays(order):
    start = torch.tensor([[3, 3, 3], [0, 3, 3], [3, 3, 1]])
    drafts = list(discrete.unmask(PERFECT, start, 2, order, generator=torch.Generator().manual_seed(0)))
    assert [draft.call for draft in drafts] == [0, 1, 2] and drafts[0].logits is None
    assert drafts[1].revealed.sum(1).tolist() == [2, 1, 1] and drafts[2].revealed.sum(1).tolist() == [1, 1, 1]
    for before, after in itertools.pairwise(drafts):
        assert (after.tokens[before.tokens < 3] == before.tokens[before.tokens < 3]).all()
    assert drafts[-1].tokens[1, 0] == 0 and drafts[-1].tokens[2, 2] == 1
    if order == "left":
        assert drafts[1].revealed[0].tolist() == [True, True, False]


def test_temperature_0_takes_the_likeliest():
    start = torch.full((5, 3), 3)
    *_, last = discrete.unmask(PERFECT, start, 3, "left", temperature=0)
    assert (last.tokens == last.tokens[0]).all() and last.tokens[0].tolist() in SENTENCES.tolist()


def test_steps_that_reveal_something():
    for T, L in itertools.product(range(1, 4), range(1, 4)):
        steps = list(itertools.product(range(T), repeat=L))
        mean = Fraction(sum(len(set(s)) for s in steps), len(steps))
        assert mean == T * (1 - (1 - Fraction(1, T)) ** L)


# -- slips and wrong arguments --------------------------------------------------------------------------------------------


def even_portions(module: ModuleType) -> None:
    drafts = list(module.unmask(PERFECT, torch.full((2, 3), 3), 2, generator=torch.Generator().manual_seed(0)))
    assert drafts[1].revealed.sum(1).tolist() == [2, 2] and not (drafts[-1].tokens == 3).any()


def draws_the_sentences(module: ModuleType) -> None:
    assert not far(drawn("entropy", 3, module), exact())
    assert not far(drawn("random", 3, module), exact())


CHECKS = {
    "posterior": posterior_by_paths,
    "bound": bound_by_paths,
    "masks": masks_are_even,
    "orders": bound_by_orders,
    "portions": even_portions,
    "sentences": draws_the_sentences,
}


@pytest.mark.parametrize(
    ("right", "wrong", "by"),
    [
        ("Q_t[:, x_t].T * Qbar_s[x0]", "Q_t[x_t] * Qbar_s[x0]", "posterior"),
        ("Qbar[:, None, :] * Q_t.T[None]", "Qbar[:, None, :] * Q_t[None]", "bound"),
        ("1 / (k * math.comb(L, k))", "1 / math.comb(L, k)", "orders"),
        ("rank.to(n.device) < n[:, None]", "rank.to(n.device) <= n[:, None]", "masks"),
        ("(masks * k + calls - 1) // calls", "(masks * k) // calls", "portions"),
        ("-torch.special.xlogy(p, p).sum(-1)", "-p.gather(-1, drawn[..., None])[..., 0]", "sentences"),
    ],
)
def test_slips_are_refuted(right, wrong, by):
    assert by in refuted_by(slipped(discrete, right, wrong), CHECKS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: discrete.uniform_matrix(1.5, 3), r"^beta must lie in \[0, 1\], got 1\.5$"),
        (lambda: discrete.absorbing_matrix(0.5, 0), r"^K must be an integer from 1 to 4096, got 0$"),
        (
            lambda: discrete.forward_tokens(torch.tensor([3]), torch.eye(3)),
            r"^x0 must hold categories 0\.\.2, got 3\.\.3$",
        ),
        (
            lambda: discrete.forward_tokens(torch.tensor([0]), torch.ones(2, 2)),
            r"^Q must have rows of probabilities that sum to 1",
        ),
        (
            lambda: discrete.categorical_posterior(torch.eye(2), torch.eye(2), torch.tensor([0]), torch.tensor([1])),
            r"^x_t must be possible: 1 cannot come from x0 = 0$",
        ),
        (lambda: discrete.chain_bound([], [], torch.ones(1)), r"^forward and reverse must hold T >= 1 matrices each"),
        (lambda: discrete.random_masks(torch.tensor([4]), 3), r"^n must hold a number 0\.\.3 for each row"),
        (
            lambda: discrete.masked_bound(PERFECT, torch.zeros(1, 13, dtype=torch.long)),
            r"^x must have at most 12 positions",
        ),
        (
            lambda: discrete.unmask(PERFECT, torch.full((1, 3), 3), 4),
            r"^calls must be at most the number of masks, 3, got 4",
        ),
        (lambda: discrete.unmask(PERFECT, SENTENCES, 1), r"^start must hold masks, the token 3, got none"),
        (lambda: discrete.unmask(PERFECT, torch.full((1, 3), 3), 0), r"^calls must be an integer >= 1, got 0$"),
        (
            lambda: discrete.unmask(PERFECT, torch.full((1, 3), 3), 1, "sure"),
            r"^order must be one of \"random\", \"left\"",
        ),
        (
            lambda: discrete.unmask(PERFECT, torch.full((1, 3), 3), 1, temperature=-1),
            r"^temperature must be a number >= 0",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
