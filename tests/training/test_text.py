"""The two corpora of chapter 20, the objective MaskedTokens, and the weights that ship."""

import hashlib

import pytest
import torch

from diffnotes.book.press.prose import plain
from diffnotes.models.transformer import TokenTransformer
from diffnotes.process.discrete import masked_bound, masked_nats, random_masks
from diffnotes.training import text
from diffnotes.training.config import TrainConfig
from diffnotes.training.objectives import Draw, MaskedTokens, from_checkpoint, to_checkpoint
from diffnotes.training.pretrained import WORDS, load_words
from diffnotes.training.tokens import Tokens
from diffnotes.training.trainer import Trainer


def test_all_sums_are_there_and_true():
    everything, train, test = (text.load_sums(split) for split in ("all", "train", "test"))
    assert (len(everything), len(train), len(test)) == (10_000, 8000, 2000)
    assert torch.equal(torch.cat([train.x, test.x]).unique(dim=0), everything.x.unique(dim=0))
    for row in (0, 123, 9999):
        a, b = everything.text(row).split("+")
        assert int(a) + int(b[:2]) == int(b[3:]) and len(b) == 6
    wrong = everything.x[:50].clone()
    wrong[:, 8] = (wrong[:, 8] + 1) % 10
    assert text.true_sums(everything.x).all() and not text.true_sums(wrong).any()


def test_the_prose_is_the_file_that_came_with_the_package(tmp_path, monkeypatch):
    content = text.PROSE.read_bytes()
    assert len(content) <= 400_000 and hashlib.sha256(content).hexdigest() == text.PROSE_SHA256
    train, test = text.load_prose("train", 32), text.load_prose("test", 32)
    assert train.symbols == test.symbols and len(train.symbols) == train.vocab
    assert train.text(1)[:24] == train.text(0)[8:]
    found = test.text(10)
    assert found in content.decode().replace(text.BETWEEN_CELLS, "\n")
    windows = {train.text(k) for k in range(0, len(train), 4)}
    assert found not in windows
    other = tmp_path / "prose.txt"
    other.write_bytes(content + b"x")
    monkeypatch.setattr(text, "PROSE", other)
    with pytest.raises(ValueError, match="must be the file that came with the package"):
        text.load_prose()


def test_formulas_and_code_become_a_sign():
    assert plain("## Why $x$?\n\n$$ a=b $$ so **[it](#a)** is `f(x)`") == "why $?\n$ so it is $"
    assert plain("```python\nx = 1\n```\nA × B – C") == "$\na x b - c"


class Table(torch.nn.Module):
    """A model of three places and two tokens that is wrong."""

    vocab, causal, num_classes = 2, False, None

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(27, 3, 2, generator=torch.Generator().manual_seed(0)))

    def forward(self, tokens, y=None):
        return self.table[(tokens * torch.tensor([9, 3, 1])).sum(1)]


def rows(number: int = 6000) -> Tokens:
    return Tokens(torch.tensor([[0, 1, 1]]).expand(number, 3), 2, "one", "written down")


def test_the_mean_of_the_objective_is_the_bound_per_letter():
    batch, objective = rows(), MaskedTokens()
    losses = objective(Table(), batch, Draw(0, 0, len(batch)))
    bound = masked_bound(Table(), batch.x[:1]).item() / 3
    assert losses.total.mean().item() == pytest.approx(bound, abs=5 * losses.total.std().item() / len(batch) ** 0.5)
    assert torch.bincount(losses.time_bin, minlength=10)[[0, 3, 6]].tolist() == [2000] * 3
    assert "nats per token" in losses.parts


def test_two_processes_do_together_what_one_does():
    batch, objective = rows(8), MaskedTokens()
    whole = objective(Table(), batch, Draw(0, 3, 8)).total
    parts = [objective(Table(), batch[s], Draw(0, 3, 8, s)).total for s in (slice(0, 4), slice(4, 8))]
    assert torch.equal(whole, torch.cat(parts))


def test_it_trains_and_is_kept():
    torch.manual_seed(0)
    model = TokenTransformer(2, 3, width=16, depth=1, heads=2, causal=False, num_classes=2)
    data = Tokens(torch.tensor([[0, 1, 1], [1, 0, 0]] * 16), 2, "two", "written down", y=[0, 1] * 16)
    config = TrainConfig(batch_size=16, precision="float32", warmup=5, optimizer="adamw", learning_rate=2e-2)
    trainer = Trainer(model, MaskedTokens(0.2), data, config)
    for _ in trainer.steps(updates=60):
        pass
    assert trainer.history[-1].loss < 0.7 * trainer.history[0].loss
    assert from_checkpoint(*to_checkpoint(MaskedTokens(0.2))) == MaskedTokens(0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MaskedTokens(1.0), r"^label_dropout must lie between 0 and 1, got 1\.0$"),
        (
            lambda: Trainer(TokenTransformer(2, 3, causal=True), MaskedTokens(), rows(64)),
            r"model must look at the places on both sides",
        ),
        (
            lambda: Trainer(TokenTransformer(5, 3, causal=False), MaskedTokens(), rows(64)),
            r"model must be made for the 2 tokens of the data, got vocab 5",
        ),
        (lambda: text.load_sums("half"), r"^split must be one of"),
        (lambda: load_words("novels"), r"^name must be"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_shipped_networks_are_small_and_as_good_as_the_card_says():
    for name in ("sums-masked", "prose-masked"):
        assert (WORDS / f"{name}.safetensors").stat().st_size < 2_000_000
    model, held_out = load_words("sums-masked"), text.load_sums("test")
    x, g, nats = held_out.x[:300], torch.Generator().manual_seed(0), 0.0
    for n in range(1, 10):
        nats += (masked_nats(model, x, random_masks(torch.full((300,), n), 9, g)).sum(1) / n).mean().item()
    assert 12.5 < nats / 0.6931 < 14.5
