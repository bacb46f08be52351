"""The vector quantiser and the VQ-VAE: against diffusers and scikit-learn, the moving codebook, and what is refused."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from diffnotes.models.codes import VQVAE, VectorQuantizer, perplexity


def begun(quantizer: VectorQuantizer, codebook: torch.Tensor, count: float = 1.0) -> VectorQuantizer:
    """The quantiser with this codebook, each code with the same count."""
    quantizer.codebook.copy_(codebook)
    quantizer.count.fill_(count)
    quantizer.total.copy_(count * codebook)
    quantizer.begun.fill_(True)
    return quantizer


def test_the_quantiser_is_that_of_diffusers(generator):
    from diffusers.models.autoencoders.vae import VectorQuantizer as Theirs

    theirs = Theirs(12, 5, beta=0.25, legacy=False)
    ours = begun(VectorQuantizer(12, 5), theirs.embedding.weight.detach()).eval()
    z = 0.1 * torch.randn(3, 5, 4, 2, generator=generator)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    weights = torch.randn(z.shape, generator=generator)
    q, loss, (_, _, tokens) = theirs(a)
    answer = ours(b)
    torch.testing.assert_close(answer.q, q)
    assert torch.equal(answer.tokens.flatten(), tokens)
    (weights * q).sum().backward()
    (weights * answer.q).sum().backward()
    torch.testing.assert_close(b.grad, a.grad)  # straight-through
    # beta on the encoder's term, 1 on the codebook's, which has the same value and here no gradient
    mean = answer.commitment.sum() / z.numel()
    torch.testing.assert_close((1 + 0.25) * mean, loss)
    pull = torch.autograd.grad(0.25 * ours(b).commitment.sum() / z.numel(), b)[0]
    torch.testing.assert_close(pull, torch.autograd.grad(theirs(a)[1], a)[0])


def test_one_batch_with_decay_zero_is_one_round_of_k_means(generator):
    points = torch.randn(300, 2, generator=generator)
    start = points[:7].clone()
    ours = begun(VectorQuantizer(7, 2, decay=0.0, restart=0.0), start)
    ours.train()(points.T[None, :, :, None])
    theirs = KMeans(7, init=start.numpy(), n_init=1, max_iter=1, algorithm="lloyd").fit(points.numpy())
    np.testing.assert_allclose(ours.codebook.numpy(), theirs.cluster_centers_, atol=1e-5)


def test_the_codes_are_running_means_with_a_step_of_their_own(generator):
    ours = begun(VectorQuantizer(4, 3, decay=0.9, restart=0.0), torch.randn(4, 3, generator=generator), 5.0)
    for _ in range(20):
        z = torch.randn(2, 3, 3, 3, generator=generator)
        old, count = ours.codebook.clone(), ours.count.clone()
        tokens = ours.train()(z).tokens
        for k in range(4):
            mine = z.movedim(1, -1)[tokens == k]
            new = 0.9 * count[k] + 0.1 * len(mine)
            step = 0.1 * len(mine) / new * (mine.mean(0) - old[k]) if len(mine) else torch.zeros(3)
            torch.testing.assert_close(ours.codebook[k], old[k] + step, rtol=1e-4, atol=1e-5)


def test_a_code_without_vectors_stays_unless_it_is_restarted(generator):
    far = torch.tensor([[0.0, 0.0], [50.0, 50.0]])
    z = torch.randn(4, 2, 5, 5, generator=generator)
    stays = begun(VectorQuantizer(2, 2, decay=0.5, restart=0.0), far, 40.0)
    back = begun(VectorQuantizer(2, 2, decay=0.5, restart=0.01), far, 40.0)
    for _ in range(12):
        for quantizer in (stays, back):
            quantizer.train()(z)
    torch.testing.assert_close(stays.codebook[1], far[1])
    assert back.codebook[1].norm() < 5 and len(back(z).tokens.unique()) == 2


def test_a_restarted_code_counts_twice_the_least_and_is_a_running_mean_from_there(generator):
    z = torch.randn(4, 2, 5, 5, generator=generator)
    ours = begun(VectorQuantizer(2, 2, decay=0.5, restart=0.2), torch.tensor([[0.0, 0.0], [50.0, 50.0]]), 10.0)
    ours.train()(z)
    least = 0.2 * (0.5 * 20 + 0.5 * 100) / 2  # a share of the even count; the second code has 5
    assert ours.count.tolist() == pytest.approx([55, 2 * least])
    torch.testing.assert_close(ours.total[1], ours.count[1] * ours.codebook[1])
    assert (z.movedim(1, -1).reshape(-1, 2) == ours.codebook[1]).all(1).any()


def test_the_first_batch_gives_the_codes_and_eval_mode_moves_nothing(generator):
    ours, z = VectorQuantizer(6, 2, decay=0.99), torch.randn(3, 2, 4, 4, generator=generator)
    before = ours.codebook.clone()
    ours.eval()(z)
    assert torch.equal(ours.codebook, before) and not ours.begun
    torch.manual_seed(3)
    ours.train()(z)
    again = VectorQuantizer(6, 2, decay=0.99)
    torch.manual_seed(3)
    again.train()(z)
    assert ours.begun and torch.equal(ours.codebook, again.codebook)
    assert ours.codebook.abs().max() <= z.abs().max()
    assert not list(ours.parameters())


def test_the_slip_of_a_codebook_that_moves_before_it_is_used(generator):
    """Tokens and q come from the codebook as it was when the batch came."""
    start = torch.randn(5, 2, generator=generator)
    ours, z = begun(VectorQuantizer(5, 2, decay=0.0, restart=0.0), start), torch.randn(2, 2, 3, 3, generator=generator)
    answer = ours.train()(z)
    torch.testing.assert_close(answer.q, start[answer.tokens].movedim(-1, 1))


def test_the_vqvae_encodes_and_decodes(generator):
    torch.manual_seed(0)
    model, x = VQVAE(codes=10, dim=4, width=8).eval(), 2 * torch.rand(3, 1, 28, 28, generator=generator) - 1
    logits, quantized = model(x)
    tokens = model.encode(x)
    assert tokens.shape == (3, 7, 7) and torch.equal(tokens, quantized.tokens)
    torch.testing.assert_close(model.decode(tokens), torch.tanh(logits / 2))
    torch.testing.assert_close(model.quantizer.lookup(tokens), quantized.q)
    assert model(x[:, :, :12, :20])[0].shape == (3, 1, 12, 20)
    again = VQVAE(**model.settings)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().encode(x), tokens)


def test_encoder_and_decoder_are_of_use_without_the_codebook(generator):
    model = VQVAE(codes=10, dim=4, width=8)
    z = model.encoder(torch.randn(2, 1, 28, 28, generator=generator))
    assert z.shape == (2, 4, 7, 7) and model.decoder(z).shape == (2, 1, 28, 28)


def test_perplexity_is_that_of_the_shares():
    assert perplexity(torch.tensor([3, 3, 3]), 5) == pytest.approx(1)
    assert perplexity(torch.arange(8).repeat(3), 8) == pytest.approx(8)
    p = torch.tensor([0.5, 0.25, 0.25])
    expected = torch.distributions.Categorical(p).entropy().exp().item()
    assert perplexity(torch.tensor([[0, 0], [1, 2]]), 3) == pytest.approx(expected)


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused():
    for make, words in (
        (lambda: VectorQuantizer(1, 2), "codes must be at least 2, got 1"),
        (lambda: VectorQuantizer(4, 0), "dim must be at least 1, got 0"),
        (lambda: VectorQuantizer(4, 2, decay=1.0), r"decay must lie in \[0, 1\), got 1.0"),
        (lambda: VectorQuantizer(4, 2, restart=math.nan), r"restart must lie in \[0, 1\), got nan"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(1, 3, 2, 2)), r"z must have shape \(B, 2, H, W\)"),
        (lambda: VQVAE()(torch.zeros(1, 1, 30, 28)), r"x must have height and width divisible by 4, got \(30, 28\)"),
        (lambda: VQVAE().decode(torch.full((1, 7, 7), 64)), r"tokens must lie in 0\.\.63, got 64\.\.64"),
        (
            lambda: VQVAE().decode(torch.zeros(1, 49, dtype=torch.int64)),
            r"tokens must have the shape \(B, H, W\), got \(1, 49\)",
        ),
        (lambda: VQVAE().decode(torch.zeros(1, 7, 7)), "tokens must be a tensor of integers, got dtype torch.float32"),
        (lambda: perplexity(torch.tensor([], dtype=torch.int64), 3), "tokens must hold at least one token, got none"),
    ):
        with pytest.raises(ValueError, match=words):
            make()


def test_the_nearest_code_is_the_nearest(generator):
    book, z = torch.randn(9, 3, generator=generator), torch.randn(200, 3, generator=generator)
    assert torch.equal(begun(VectorQuantizer(9, 3), book).nearest(z), torch.cdist(z, book).argmin(1))
