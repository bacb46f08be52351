"""Masks that become letters (chapter 20): a sum with exact probabilities, box by box, and a film of a model that fills masks."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, dropdown, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePicture, LivePlot
from diffnotes.process.discrete import Draft, unmask
from diffnotes.process.exact_words import LanguageDenoiser
from diffnotes.training.text import DIGITS, load_sums

POSITIONS = 9
LISTS = {
    "left": (0, 1, 2, 3, 4, 5, 6, 7, 8),
    "right": (8, 7, 6, 5, 4, 3, 2, 1, 0),
    "mixed": (4, 7, 0, 2, 8, 5, 3, 1, 6),
    "signs": (2, 5, 6, 0, 3, 7, 1, 4, 8),
}
LIST_WORDS = {"left": "left to right", "right": "right to left", "mixed": "mixed up", "signs": "the surest first"}
WHITE_TO_BLUE = LinearSegmentedColormap.from_list("probability", ["white", plots.SKY, plots.BLUE])


@lru_cache(maxsize=1)
def sums_model() -> LanguageDenoiser:
    """The exact model of the 10,000 sums."""
    return LanguageDenoiser(load_sums("all").x, len(DIGITS))


# -- a sum, box by box --------------------------------------------------------------------------------------------------


def reveal(revealed: int = 3, together: int = 4, order: str = "signs", number: int = 2304) -> None:
    """A sum in nine boxes, some of them revealed; below each the exact probabilities of the twelve signs, by counting those of
    the 10,000 sums that agree with what is revealed.

    revealed: a slider, how many boxes are open; together: a slider, how many of the next ones are drawn at once, framed;
    order: a menu, in which order the boxes open ("left", "right", "mixed", "signs"); number: a slider, which of the sums,
    0..9999.
    The line below gives the bits that drawing the framed boxes independently loses (book, eq. 20.11), given what is open."""
    build_reveal(revealed, together, order, number).show()


def build_reveal(revealed: int = 3, together: int = 4, order: str = "signs", number: int = 2304) -> Explorer:
    """The explorer of `reveal`, not yet shown."""
    check_range(
        {"revealed": (revealed, 0, POSITIONS), "together": (together, 1, POSITIONS), "number": (number, 0, 9999)}
    )
    if order not in LISTS:
        raise ValueError(f"order must be one of {', '.join(map(repr, LISTS))}, got {order!r}")
    figure, (top, ax) = plots.subplots(2, 1, size=(6.6, 4.6), height_ratios=(1, 6), sharex=True)
    top.set(xlim=(-0.5, POSITIONS - 0.5), ylim=(-0.5, 0.5), yticks=[])
    top.axis("off")
    ax.set(
        yticks=range(len(DIGITS)),
        yticklabels=list(DIGITS),
        xticks=[],
        ylabel="sign",
        xlabel="probability of every sign",
    )
    ax.grid(False)
    ax.spines[:].set_visible(False)
    sheet = ax.imshow(np.zeros((len(DIGITS), POSITIONS)), vmin=0, vmax=1, cmap=WHITE_TO_BLUE, aspect="auto")
    edges = np.arange(POSITIONS + 1) - 0.5
    lines = [ax.vlines(edges, -0.5, len(DIGITS) - 0.5, color="#d0d0d0", lw=0.8)]
    boxes = [top.plot([i], [0], marker="s", ms=30, mec="#555555", mew=1)[0] for i in range(POSITIONS)]
    letters = [
        top.text(i, 0, "", ha="center", va="center_baseline", size=19, family="monospace") for i in range(POSITIONS)
    ]
    plot = LivePlot(figure, [sheet, *lines, *boxes, *letters])
    controls: dict[str, widgets.Widget] = {
        "revealed": int_slider("open", revealed, 0, POSITIONS),
        "together": int_slider("at once", together, 1, POSITIONS),
        "order": dropdown("order", [(words, name) for name, words in LIST_WORDS.items()], value=order),
        "number": int_slider("sum", number, 0, 9999, continuous_update=True),
    }

    def update(revealed: int, together: int, order: str, number: int) -> str:
        row, opened, block = sums_model().sentences[number], LISTS[order][:revealed], _block(order, revealed, together)
        p = probabilities(row, opened)
        sheet.set_data(p.T)
        for i in range(POSITIONS):
            boxes[i].set_markerfacecolor("white" if i in opened else "#c9c9c9")
            boxes[i].set_markeredgecolor(plots.ORANGE if i in block else "#555555")
            boxes[i].set_markeredgewidth(3.5 if i in block else 1)
            letters[i].set_text(DIGITS[int(row[i])] if i in opened else "")
        return _reading(row, opened, block)

    words = "".join(
        DIGITS[int(sums_model().sentences[number][i])] if i in LISTS[order][:revealed] else "_"
        for i in range(POSITIONS)
    )
    alt = (
        f"Nine boxes of a sum, those that are open show {words}. Below each box a column of twelve cells, one "
        f"for each sign, the "
        "darker the more probable."
    )
    return Explorer("A sum, box by box", controls, plot, update, alt)


def _block(order: str, revealed: int, together: int) -> tuple[int, ...]:
    return LISTS[order][revealed : revealed + together]


def agreeing(row: Tensor, opened: Sequence[int]) -> Tensor:
    """The sums that have the same signs at the open positions."""
    sums = sums_model().sentences
    return sums[(sums[:, list(opened)] == row[list(opened)]).all(1)]


def probabilities(row: Tensor, opened: Sequence[int]) -> np.ndarray:
    """The probabilities of the twelve signs at the nine positions, given the open ones: (9, 12)."""
    masked = torch.full((1, POSITIONS), len(DIGITS))
    masked[0, list(opened)] = row[list(opened)]
    counts = sums_model().counts(masked)[0]
    return (counts / counts.sum(1, keepdim=True)).numpy()


def at_once(row: Tensor, opened: Sequence[int], block: Sequence[int]) -> tuple[float, float]:
    """Of drawing the block at once, given the open positions: the bits lost (their total correlation), and the probability that
    what is drawn occurs in a true sum."""
    found, p = agreeing(row, opened)[:, list(block)], probabilities(row, opened)[list(block)]
    values, counts = found.unique(dim=0, return_counts=True)
    joint = counts.double() / counts.sum()
    alone = torch.from_numpy(p).double().gather(1, values.T).prod(0)
    return max(0.0, float((joint * (joint / alone).log2()).sum())), float(alone.sum())


def _reading(row: Tensor, opened: Sequence[int], block: Sequence[int]) -> str:
    number = len(agreeing(row, opened))
    begin = f"{number:,} of the 10,000 sums agree with the open boxes." if number > 1 else "One sum is left."
    if not block:
        return f"{begin} Every box is open."
    lost, possible = at_once(row, opened, block)
    boxes = "The framed box" if len(block) == 1 else f"The {len(block)} framed boxes"
    if len(block) == 1:
        return f"{begin} {boxes} alone: nothing is lost, and what is drawn always fits."
    return (
        f"{begin} {boxes}, drawn at once and each by itself: <b>{lost:.2f} bits lost</b>, and what is drawn "
        f"occurs in a true sum "
        f"with probability {possible:.3f}."
    )


# -- a film of drafts ---------------------------------------------------------------------------------------------------

ORDER_WORDS = {
    "random": "random",
    "left": "left to right",
    "surest": "surest value first",
    "entropy": "least entropy first",
    "ancestral": "every mask by a coin",
}
SIGN, LINE, WIDEST = 10, 21, 64  # pixels of a sign, of a line; signs beside each other


def unmasking(
    model: Any,
    start: Tensor,
    symbols: Sequence[str],
    calls: int = 9,
    order: str = "random",
    width: int = 9,
    seed: int = 0,
) -> None:
    """A film of `unmask`: rows of masks that a model fills. Grey blocks are masks, red signs are those of this call.

    model: logits for tokens (B, L); start: (B, L), with masks; symbols: a letter for each token; calls: a slider over numbers of
    calls; a second slider goes through them; order: a menu (see unmask); width: signs to a line."""
    build_unmasking(model, start, symbols, calls, order, width, seed).show()


def build_unmasking(
    model: Any,
    start: Tensor,
    symbols: Sequence[str],
    calls: int = 9,
    order: str = "random",
    width: int = 9,
    seed: int = 0,
) -> Explorer:
    """The explorer of `unmasking`, not yet shown."""
    most = int((start == len(symbols)).sum(1).max())
    check_range({"calls": (calls, 1, most)})
    if order not in ORDER_WORDS:
        raise ValueError(f"order must be one of {', '.join(map(repr, ORDER_WORDS))}, got {order!r}")
    plot = LivePicture(sheet(Draft(0, start, torch.zeros_like(start, dtype=torch.bool)), symbols, width).width)
    controls: dict[str, widgets.Widget] = {
        "calls": int_slider("calls", calls, 1, most),
        "step": int_slider("after", calls, 0, most),
        "order": dropdown("order", [(words, name) for name, words in ORDER_WORDS.items()], value=order),
    }

    @lru_cache(maxsize=200)
    def film(calls: int, order: str) -> list[Draft]:
        return list(unmask(model, start, calls, order, generator=torch.Generator().manual_seed(seed)))

    def update(calls: int, step: int, order: str) -> str:
        drafts = film(calls, order)
        draft = drafts[min(step, calls)]
        plot.current = sheet(draft, symbols, width)
        left = int((draft.tokens == len(symbols)).sum())
        filled = int(draft.revealed.sum())
        return (
            f"After {min(step, calls)} of {calls} call{'s' * (calls > 1)}, {ORDER_WORDS[order]}: this call has "
            f"filled {filled} masks, "
            f"{left} are left."
        )

    alt = (
        f"{len(start)} rows of {start.shape[1]} signs, all filled in {calls} calls. Those that the last call "
        f"has filled are "
        "red, the others black."
    )
    return Explorer("Masks become letters", controls, plot, update, alt)


def sheet(draft: Draft, symbols: Sequence[str], width: int) -> Image.Image:
    """The rows of a draft as a picture, `width` signs to a line, short rows side by side: masks as grey blocks, in red what this
    call has filled, the line break as an arrow."""
    lines = math.ceil(draft.tokens.shape[1] / width)
    columns = max(1, WIDEST // (width + 3)) if lines == 1 else 1
    high = LINE * lines + 8
    picture = Image.new("RGB", (columns * (width + 3) * SIGN, math.ceil(len(draft.tokens) / columns) * high), "white")
    pen, font = ImageDraw.Draw(picture), _font()
    for row, (tokens, filled) in enumerate(zip(draft.tokens.tolist(), draft.revealed.tolist(), strict=True)):
        left, top = row % columns * (width + 3) * SIGN, row // columns * high
        for i, (k, new) in enumerate(zip(tokens, filled, strict=True)):
            x, y = left + i % width * SIGN, top + i // width * LINE
            if k == len(symbols):
                pen.rectangle([x + 1, y + 3, x + SIGN - 2, y + LINE - 3], fill="#c9c9c9")
            else:
                letter = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}" if symbols[k] == "\n" else symbols[k]
                pen.text((x, y), letter, font=font, fill=plots.RED if new else plots.BLACK)
    return picture


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans Mono"), 16)
