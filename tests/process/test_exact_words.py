"""The perfect model of finitely many sentences: against counting by hand, and the sums."""

import itertools
import math

import pytest
import torch

from diffnotes.process.discrete import masked_bound
from diffnotes.process.exact_words import LanguageDenoiser
from diffnotes.training.text import load_sums

SENTENCES = [(0, 1, 2), (0, 1, 2), (0, 2, 1), (1, 0, 0), (2, 2, 2)]
MODEL = LanguageDenoiser(torch.tensor(SENTENCES), 3)


def test_the_counts_are_those_of_a_loop():
    for tokens in itertools.product(range(4), repeat=3):
        agree = [s for s in SENTENCES if all(t in (3, k) for t, k in zip(tokens, s, strict=True))] or SENTENCES
        expected = [[sum(s[i] == k for s in agree) for k in range(3)] for i in range(3)]
        assert MODEL.counts(torch.tensor([tokens]))[0].tolist() == expected
    p = MODEL(torch.tensor([[0, 3, 3]])).softmax(-1)[0, 1]
    assert p.tolist() == pytest.approx([0, 2 / 3, 1 / 3])


def test_every_sum_costs_the_log_of_ten_thousand():
    sums = load_sums("all")
    bound = masked_bound(LanguageDenoiser(sums.x, 12), sums.x[[3, 7004]])
    torch.testing.assert_close(bound, torch.full((2,), math.log(10_000), dtype=torch.float64), atol=1e-5, rtol=0)


def test_entropies_and_total_correlation_of_the_sums():
    model = LanguageDenoiser(load_sums("all").x, 12)
    assert model.entropy(range(9)) == pytest.approx(math.log(10_000))
    assert model.total_correlation(range(9)) / math.log(2) == pytest.approx(7.6438, abs=1e-4)
    assert model.total_correlation(range(5)) == pytest.approx(0, abs=1e-9)
    assert model.total_correlation((5, 6, 7, 8), range(5)) == pytest.approx(0, abs=1e-9)
    assert model.entropy(()) == 0
    pairs = LanguageDenoiser(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 3)
    assert pairs.entropy((0, 1)) == pytest.approx(math.log(9)) and pairs.entropy((1,)) == pytest.approx(math.log(3))


def test_total_correlation_is_a_divergence():
    def share(which):
        return sum(all(s[i] == v for i, v in which.items()) for s in SENTENCES) / len(SENTENCES)

    divergence = 0.0
    for s in set(SENTENCES):  # of q from q(x1) q(x2|x1) q(x3|x1): the block (1, 2), given 0
        q, given = share(dict(enumerate(s))), share({0: s[0]})
        divergence += q * math.log((q / given) / (share({0: s[0], 1: s[1]}) * share({0: s[0], 2: s[2]}) / given**2))
    assert MODEL.total_correlation((1, 2), (0,)) == pytest.approx(divergence)


def test_what_the_chapter_says_of_pooling():
    """Of the sums: the bound, set by set of masks, and what comes out if all masked letters count alike."""
    model, cost = LanguageDenoiser(load_sums("all").x, 12), [0.0] * 10
    for hidden in itertools.chain.from_iterable(itertools.combinations(range(9), n) for n in range(1, 10)):
        seen = set(range(9)) - set(hidden)
        before = model.entropy(seen)
        each = sum(model.entropy(seen | {i}) - before for i in hidden)
        cost[len(hidden)] += each / math.comb(9, len(hidden)) / math.log(2)
    assert sum(c / n for n, c in enumerate(cost) if n) == pytest.approx(math.log2(10_000))
    assert f"{9 * sum(cost) / sum(range(10)):.1f}" == "16.9"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LanguageDenoiser(torch.zeros(0, 3, dtype=torch.long), 3),
            r"^sentences must be a tensor of tokens \(N, L\), N >= 1",
        ),
        (lambda: LanguageDenoiser(torch.tensor([[3]]), 3), r"^sentences must hold tokens 0\.\.2, got 3\.\.3$"),
        (lambda: MODEL(torch.tensor([[4, 0, 0]])), r"^tokens must have the shape \(B, 3\) and hold 0\.\.3"),
        (lambda: MODEL.total_correlation((0,), (0,)), r"^block and given must have no position in common"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
