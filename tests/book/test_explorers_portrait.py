"""The explorers of chapter 21: the game in the plane, sets that fool a measure, and the portrait; what is drawn and read."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from pixels import sent

from diffnotes.book.explorers import build_fool, build_game, build_portrait
from diffnotes.book.explorers.fool import SETS, Judged
from diffnotes.book.explorers.game import RING, Game, film, found, on_blobs
from diffnotes.book.live import widgets as live
from diffnotes.book.press import portrait
from diffnotes.training.data import load_images
from diffnotes.training.grid import grid_image
from diffnotes.training.metrics import features_and_probabilities, frechet_distance, inception_score


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read(explorer: live.Explorer, pattern: str) -> float:
    return float(re.search(pattern, explorer.reading.value)[1].replace(",", ""))


# -- the game -----------------------------------------------------------------------------------------------------------


def test_modes_are_counted_where_more_than_one_point_in_a_hundred_lies():
    points = np.repeat(RING.centres, [50, 30, 10, 5, 3, 1, 1, 0], axis=0)  # 100 points; one in a hundred is not more
    assert found(points) == 5 and on_blobs(points) == 1
    right = np.array([1.0, 0.0])
    assert found(points + 0.19 * right) == 5 and found(points + 0.21 * right) == 0 and on_blobs(points + 9 * right) == 0
    assert found(RING.draw(2000, np.random.default_rng(0))) == 8


def test_a_game_is_the_same_again_and_its_networks_learn():
    one, other = Game(seed=3, r1=0.5), Game(seed=3, r1=0.5)
    first = one.draw(50)
    for _ in range(5):
        one.step()
        other.step()
    assert np.array_equal(one.draw(50), other.draw(50)) and not np.array_equal(one.draw(50), first)
    assert not np.array_equal(Game(seed=4).draw(50), first)


def test_the_discriminator_alone_learns_the_log_ratio():
    """With a generator that stands still its logit is positive at the data and negative at what is drawn."""
    game = Game(seed=0)
    for group in game.of_g.param_groups:
        group["lr"] = 0.0
    before = game.draw(100)
    for _ in range(60):
        game.step()
    assert np.array_equal(game.draw(100), before)
    real = torch.from_numpy(RING.draw(100, np.random.default_rng(1))).float()
    assert game.logit(real).mean() > 1 > -1 > game.logit(torch.from_numpy(before)).mean()


def test_the_explorer_reads_out_what_is_drawn():
    explorer = build_game(frame=2)
    first = sent(explorer)
    explorer.controls["update"].value = 50
    points, _, number, share = film("non-saturating", 1.0, 0.0)[5]
    assert read(explorer, r"Update (\d+)") == 50 and read(explorer, r": (\d) of 8 modes") == number
    assert read(explorer, r"found, (\d+)% of") == round(100 * share)
    drawn = np.stack(explorer.plot.artists[2].get_data(), 1)
    assert np.array_equal(drawn, points) and (sent(explorer) != first).any()
    explorer.controls["gamma"].value = 1.0
    assert "γ = 1.0" in explorer.reading.value
    explorer.reset()
    assert (sent(explorer) == first).all()


# -- sets that fool a measure --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_images("digits", "train", size=28), load_images("digits", "test", size=28)


def test_the_sets_are_what_they_are_called(digits):
    judged = Judged(*digits)
    x = {name: judged.pictures(name) for name in SETS}
    assert all(len(pictures) == judged.number for pictures in x.values())
    assert len(x["one a class"].flatten(1).unique(dim=0)) == 10 and len(x["fifty"].flatten(1).unique(dim=0)) == 50
    low = {tuple(picture.flatten().tolist()) for picture in judged.x[judged.y < 5]}
    assert all(tuple(picture.flatten().tolist()) in low for picture in x["0 to 4"][:50])
    middle = x["real"][:, :, 9:12, 9:12].mean((2, 3))
    torch.testing.assert_close(x["blurred"][:, :, 10, 10], middle)
    assert (x["noise"] - x["real"]).std() == pytest.approx(0.2, abs=0.1) and x["noise"].abs().max() <= 1


def test_one_picture_a_class_beats_the_real_digits_in_one_score_and_loses_in_another(digits):
    judged = Judged(*digits)
    fake, real = (judged.scores(name, 400) for name in ("one a class", "real"))
    assert fake.inception > real.inception and fake.recall < 0.1 < 0.5 < real.recall
    features, said = features_and_probabilities(judged.pictures("one a class")[:400])
    assert fake.inception == pytest.approx(inception_score(said))
    assert fake.frechet.table[-1][1] == pytest.approx(frechet_distance(features, judged.real))


def test_the_explorer_follows_menu_and_slider(digits):
    explorer = build_fool(*digits)
    first, N = sent(explorer), read(explorer, r"N = ([\d,]+)")
    explorer.controls["which"].value = "real"
    assert explorer.reading.value.startswith("Real digits") and (sent(explorer) != first).any()
    explorer.controls["number"].value = explorer.controls["number"].options[0]
    assert read(explorer, r"N = ([\d,]+)") == N // 4 or read(explorer, r"N = ([\d,]+)") == N // 4 + 1
    explorer.reset()
    assert (sent(explorer) == first).all()


# -- the portrait --------------------------------------------------------------------------------------------------------


def measures(distance: float, sheet: str) -> dict:
    keys = ("frechet", "frechet_infinity", "recognised", "inception", "entropy", "precision", "recall", "copies")
    return {key: {"value": distance, "error": 0.1} for key in keys} | {"sheet": sheet}


@pytest.fixture(scope="module")
def data() -> dict:
    def row(distance: float, bits: dict | None) -> dict:
        buffer = io.BytesIO()
        x = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(round(100 * distance))) * 2 - 1
        grid_image(x, columns=10, scale=1, gap=1).save(buffer, "png")
        costs = {"parameters": 1234, "updates": 10, "training_seconds": 61.8, "calls": 1, "drawing_seconds": 0.0123}
        return costs | {"bits": bits} | measures(distance, base64.b64encode(buffer.getvalue()).decode())

    bound = {"kind": "bound", "value": 2.5, "error": 0.02}
    models = {"ddpm": (0.5, bound), "realnvp": (0.4, bound | {"kind": "exact"}), "gan": (0.3, None)}
    rows = {budget: {k: row(d + int(budget) / 100, b) for k, (d, b) in models.items()} for budget in ("1", "3", "10")}
    return {"rows": rows, "sets": {"real": measures(0.1, ""), "one_a_class": measures(0.2, "")}}


def test_the_tables_have_a_row_for_each_model_and_made_set(data):
    head, rows = portrait.cost_table(data, "3")
    assert [row[0] for row in rows] == ["DDPM", "RealNVP", "GAN"] and all(len(row) == len(head) for row in rows)
    assert rows[0][1:] == ["1,234", "10", "62", "1", "0.012", "≤ 2.500 ± 0.020"]
    assert rows[1][-1] == "2.500 ± 0.020" and rows[2][-1] == "–"
    head, rows = portrait.judged_table(data, "10")
    assert [row[0] for row in rows] == ["DDPM", "RealNVP", "GAN", "real digits", "one picture a class"]
    assert rows[2][1] == "0.40 ± 0.10" and rows[2][3] == "0.400" and all(len(row) == len(head) for row in rows)
    head, rows = portrait.time_table(data)
    assert head == ["after", "1 min", "3 min", "10 min"] and rows[2] == [
        "GAN",
        "0.31 ± 0.10",
        "0.33 ± 0.10",
        "0.40 ± 0.10",
    ]
    with pytest.raises(ValueError, match=r"^budget must be one of '1', '3', '10', got '2'$"):
        portrait.cost_table(data, "2")


def test_the_map_says_what_it_shows(data):
    figure, alt = portrait.precision_recall(data, "3"), portrait.precision_recall_alt(data, "3")
    numbers = {text.get_text(): text.xy for ax in figure.axes for text in ax.texts}
    assert sorted(numbers) == ["1", "2", "3"]
    np.testing.assert_allclose([numbers[k] for k in "123"], [(0.53, 0.53), (0.43, 0.43), (0.33, 0.33)])
    assert "GAN 0.33 and 0.33; real digits 0.10 and 0.10." in alt


def test_numbers_of_dots_that_run_into_each_other_stand_apart(data):
    """Six dots in a cluster and one away from it: the numbers of the six stand around them, each with a line to its own dot."""
    row = data["rows"]["3"]["ddpm"]
    close = [(0.2, 0.2), (0.201, 0.2), (0.2, 0.202), (0.204, 0.199), (0.198, 0.199), (0.2, 0.198), (0.9, 0.9)]
    said = [row | {"precision": {"value": x}, "recall": {"value": y}} for x, y in close]
    rows = dict(zip(list(portrait.MODELS)[:7], said, strict=True))
    figure = portrait.precision_recall({"rows": {"3": rows}, "sets": data["sets"]}, "3")
    texts = {text.get_text(): text for ax in figure.axes for text in ax.texts}
    np.testing.assert_allclose([texts[str(i)].xy for i in range(1, 8)], close)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(texts[str(i)]) for i in range(1, 8)]  # without the lines
    middles = np.array([((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in boxes])
    assert len(texts) == 7 and texts["7"].arrow_patch is None
    assert all(texts[str(i)].arrow_patch is not None for i in range(1, 7))
    apart = np.linalg.norm(middles[:, None] - middles, axis=2)[np.triu_indices(7, 1)]
    assert apart.min() > 15


def test_the_slider_changes_between_budgets(data):
    explorer = build_portrait(portrait.sheets(data))
    first = sent(explorer)
    explorer.controls["minutes"].value = "10"
    assert "after 10 min" in explorer.reading.value and (sent(explorer) != first).any()
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["rows"]["10"]["ddpm"]["sheet"]))).convert("L"))
    height, width = sheet.shape
    shown = np.asarray(explorer.plot.current)[15 : 15 + height, :width].astype(int)
    assert abs(shown - sheet).max() <= 19 and len(np.unique(shown)) <= 8
    explorer.reset()
    assert (sent(explorer) == first).all() and "GAN: Fréchet 0.33, recall 0.33" in explorer.alt


def test_what_is_refused(digits, data):
    for call, words in (
        (lambda: build_game(loss="wgan"), r"^loss must be one of 'non-saturating', 'saturating', 'hinge', got 'wgan'$"),
        (lambda: build_game(gamma=3), r"^gamma must lie in 0\.\.2, got 3$"),
        (lambda: build_fool(*digits, which="good"), "^which must be one of 'real', .*, got 'good'$"),
        (lambda: build_fool(digits[0][:10], digits[1]), "^train must be Images of 28 x 28 grey pixels, 200 or more"),
        (lambda: build_portrait({}), "^sheets must hold at least one sheet for each budget, got none$"),
        (lambda: build_portrait(portrait.sheets(data), "2"), "^start must be one of '1', '3', '10', got '2'$"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
