"""A U-Net with captions: where it had an embedding of a label, there stands the text encoder's vector of a caption.

    caption number -> tokens -> TextEncoder -> pooled vector, added to the embedding of the time t -> every residual block

So it is called like a network with labels, model(x_t, t, y), with y the number of a caption; "no label" is the empty caption,
the last number. Samplers, guidance and trainer need not be told of words. After Nichol et al. 2022 (GLIDE), section 2.2.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from diffnotes.models.arguments import IntLike, OneEach
from diffnotes.models.text import TextEncoder
from diffnotes.models.unet import Images, UNet

Table = Integer[Tensor, "caption place"] | Sequence[Sequence[int]]


class CaptionEmbedding(nn.Module):
    """y (B,), numbers of captions -> the pooled vectors of their words, (B, width). `tokens` has a row for each caption."""

    tokens: Tensor

    def __init__(self, encoder: TextEncoder, tokens: Table) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("tokens", torch.as_tensor(tokens), persistent=False)

    def forward(self, y: Integer[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        """The vectors of these captions. Equal captions are encoded once."""
        numbers, which = y.unique(return_inverse=True)
        return self.encoder(self.tokens[numbers])[1][which]


class CaptionedUNet(nn.Module):
    """model(x_t, t, y): the prediction for noisy images x_t, given the captions of these numbers; y = None, the empty caption.

    tokens   (captions, L): row n holds the tokens of caption n; the last row is the empty caption
    vocab    number of tokens
    unet     the settings of the U-Net, its number of classes apart
    depth    blocks of the text encoder; 0 is a bag of words
    gain     see TextEncoder"""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(
        self, tokens: Table, vocab: IntLike, unet: dict[str, Any], depth: IntLike = 0, gain: IntLike = 20
    ) -> None:
        super().__init__()
        table = torch.as_tensor(tokens)
        if table.ndim != 2 or table.dtype != torch.int64 or len(table) < 2:
            raise ValueError(f"tokens must be whole numbers (captions, L), got {table.dtype} {tuple(table.shape)}")
        self.num_classes = len(table) - 1
        self.unet = UNet(**{**unet, "num_classes": 1})  # without a label embedding of its own worth speaking of
        width = self.unet.label.embedding_dim  # type: ignore[union-attr]
        encoder = TextEncoder(vocab, table.shape[1], width, depth, heads=4, gain=gain)
        self.unet.label, self.unet.num_classes = CaptionEmbedding(encoder, table), self.num_classes  # type: ignore[assignment]
        self.target = self.unet.target
        self.settings: dict[str, Any] = dict(
            tokens=table.tolist(), vocab=int(vocab), unet=dict(unet), depth=depth, gain=gain
        )

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder."""
        return self.unet.label.encoder  # type: ignore[union-attr, return-value]

    def forward(self, x_t: Images, t: OneEach, y: OneEach | None = None) -> Images:
        """The prediction, of x_t's shape."""
        return self.unet(x_t, t, y)

    def start_from(self, unet: UNet, words: Sequence[int], start: int) -> None:
        """Take over the weights of a U-Net with labels, for a bag of words: label k becomes the embedding of the token words[k],
        "no label" that of the token `start`, which every caption has, and all other words begin as 0. Then the caption of one
        such word gives exactly what the label gave, and the empty caption what no label gave."""
        if self.encoder.depth or unet.label is None or len(words) != unet.label.num_embeddings - 1:
            raise ValueError("start_from needs a bag of words (depth=0), and a token for each label of the U-Net")
        kept = {name: weight for name, weight in unet.state_dict().items() if not name.startswith("label.")}
        missing, unexpected = self.unet.load_state_dict(kept, strict=False)
        if unexpected or any(not name.startswith("label.") for name in missing):
            raise ValueError(f"unet must have the settings of this one, got {unet.settings}")
        table, bag = unet.label.weight, self.encoder.embed.weight
        with torch.no_grad():
            bag.zero_()
            bag[start] = table[-1] / self.encoder.gain
            bag[torch.as_tensor(words)] = (table[:-1] - table[-1]) / self.encoder.gain

    def muon_parameters(self) -> list[str]:
        """The weights of 16 rows and columns or more in the U-Net, and the matrices of the text encoder's blocks."""
        blocks = [f"unet.label.encoder.{name}" for name in self.encoder.matrices()]
        own = [
            f"unet.{name}"
            for name, weight in self.unet.named_parameters()
            if weight.ndim > 1 and min(weight.shape[0], weight[0].numel()) >= 16 and not name.startswith("label.")
        ]
        return own + blocks
