import base64
import io
import re

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from matplotlib import colors
from PIL import Image

from diffnotes.book import explorers, plots
from diffnotes.book.chapter.budget import budget
from diffnotes.book.live import widgets as live
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.samplers import Frame, ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import grid_image


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The HTML that is displayed, for readers without a kernel too."""
    lines: list[str] = []

    def display(what, **_):
        lines.append(what["text/html"] if isinstance(what, dict) else what.data)

    monkeypatch.setattr(plots, "display", display)
    monkeypatch.setattr(live, "display", display)
    return lines


def picture_in(html: str) -> Image.Image:
    data = re.search(r"data:image/webp;base64,([^\"]+)", html)
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data[1])))


def sent(image: widgets.Image) -> np.ndarray:
    """The pixels that an image widget shows."""
    return np.asarray(Image.open(io.BytesIO(image.value)).convert("L"))


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_a_figure_is_shown_with_its_alt_text_and_at_its_own_width(shown):
    figure, ax = plots.subplots(size=(5, 2))
    ax.plot([0, 1], [0, 1])
    plots.show(figure, "A line that rises.")
    assert 'alt="A line that rises."' in shown[0] and 'width="500"' in shown[0]
    assert picture_in(shown[0]).size == (1000, 400)


def test_a_picture_can_be_shown_at_another_width(shown):
    plots.show(Image.new("L", (40, 20)), "Grey.", width=300)
    assert 'width="300"' in shown[0] and picture_in(shown[0]).size == (40, 20)


@pytest.mark.parametrize("alt", ["", "  ", "\n"])
def test_a_picture_without_words_is_refused(alt):
    with pytest.raises(ValueError, match="alt must say in a sentence what the picture shows"):
        plots.show(Image.new("L", (4, 4)), alt)


def test_alt_texts_are_escaped():
    assert 'alt="a &lt; b &quot;c&quot;"' in plots.img_tag(Image.new("L", (4, 4)), 'a < b "c"')


def test_grey_pictures_keep_every_pixel():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (np.asarray(picture_in(plots.img_tag(Image.fromarray(pixels), "Greys.")).convert("L")) == pixels).all()


def test_figures_have_the_colours_of_the_book():
    _, ax = plots.subplots()
    lines = [ax.plot([0, 1])[0] for _ in range(3)]
    assert [colors.to_hex(line.get_color()).upper() for line in lines] == [plots.BLUE, plots.ORANGE, plots.GREEN]


def test_images_stand_in_a_grid(shown):
    plots.images(torch.zeros(6, 1, 28, 28), "Six grey squares.", columns=3)
    assert picture_in(shown[0]).size == (2 * (3 * 30 - 2), 2 * (2 * 30 - 2))


def test_images_in_colour_keep_every_colour(shown):
    x = torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1  # far more than 128 colours
    plots.images(x, "Six squares of coloured noise.", columns=3, scale=1)
    assert (np.asarray(picture_in(shown[0])) == np.asarray(grid_image(x, 3, scale=1))).all()


def test_a_figure_has_128_colours_and_a_photograph_all_of_them():
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    few, all_of_them = (picture_in(plots.img_tag(photograph, "Noise.", exact=exact)) for exact in (False, True))
    assert len(few.convert("RGB").getcolors(1600)) == 128
    assert (np.asarray(all_of_them) == np.asarray(photograph)).all()


# -- film strips ------------------------------------------------------------------------------------------------------


def frames(number: int = 5) -> list[Frame]:
    x = initial_noise(seed=0, batch=4)
    return [Frame(t=t, x_t=x * t / number, x0_hat=x, eps_hat=x) for t in range(number, -1, -1)]


def test_a_film_strip_says_what_it_shows(shown):
    plots.filmstrip(frames(), rows=2)
    assert "Film strip of 2 images from t = 5 to t = 0" in shown[0]


def test_a_film_strip_takes_the_words_given(shown):
    plots.filmstrip(frames(), alt="Noise, then digits.")
    assert 'alt="Noise, then digits."' in shown[0]


def test_a_film_strip_of_both_is_twice_as_high(shown):
    plots.filmstrip(frames(), rows=2)
    plots.filmstrip(frames(), rows=2, which="both")
    once, twice = (picture_in(html).height for html in shown)
    assert 1.7 < twice / once < 2.1


def test_a_film_strip_shows_colours_as_they_are(shown):
    colours = [(220, 30, 40), (30, 180, 60), (20, 60, 200), (250, 220, 10)]
    x = torch.tensor(colours).reshape(4, 3, 1, 1).expand(4, 3, 8, 8) / 127.5 - 1
    strip = [Frame(t=t, x_t=x, x0_hat=-x, eps_hat=x) for t in (2, 1, 0)]
    plots.filmstrip(strip, rows=4, which="both")
    found = {tuple(pixel) for pixel in np.asarray(picture_in(shown[0]).convert("RGB")).reshape(-1, 3).tolist()}
    assert set(colours) | {tuple(255 - value for value in colour) for colour in colours} <= found


@pytest.mark.parametrize("height, width", [(8, 24), (24, 8)])
def test_a_film_strip_leaves_images_their_shape(shown, height, width):
    x = torch.full((2, 1, height, width), -1.0)  # black on the white of the page
    plots.filmstrip([Frame(t=t, x_t=x, x0_hat=x, eps_hat=x) for t in (1, 0)], rows=2)
    black = np.asarray(picture_in(shown[0]).convert("L")) < 40
    rows = np.flatnonzero(black.mean(1) > 0.4)  # two images beside each other, but no title
    columns = np.flatnonzero(black[rows].mean(0) > 0.4)
    longest = [max(map(len, np.split(where, np.flatnonzero(np.diff(where) > 1) + 1))) for where in (rows, columns)]
    assert longest[0] / longest[1] == pytest.approx(height / width, rel=0.1)


def test_a_film_strip_of_other_things_than_images_is_refused():
    x = torch.zeros(2, 2, 8, 8)
    with pytest.raises(
        ValueError, match=r"frames must hold images \(B, C, H, W\) with C = 1 or 3, got shape \(2, 2, 8, 8\)"
    ):
        plots.filmstrip([Frame(t=0, x_t=x, x0_hat=x, eps_hat=x)])


@pytest.mark.parametrize("name", ["number", "rows"])
def test_a_film_strip_of_no_pictures_is_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be an integer >= 1, got 0$"):
        plots.filmstrip(frames(), **{name: 0})


def test_a_film_strip_of_nothing_is_refused():
    with pytest.raises(ValueError, match="frames must hold at least one Frame, got none"):
        plots.filmstrip([])


def test_a_film_strip_of_something_else_is_refused():
    with pytest.raises(ValueError, match='which must be "x_t", "x0_hat" or "both", got \'eps\''):
        plots.filmstrip(frames(), which="eps")


# -- live pictures ----------------------------------------------------------------------------------------------------


def test_a_table_has_a_caption_and_heads_for_rows_and_columns(shown):
    plots.table(["", "a < b"], [["x & y", "1"], ["z", "2"]], caption="Two rows.")
    (text,) = shown
    assert re.findall(r"<caption.*?>(.*?)</caption>", text) == ["Two rows."]
    assert re.findall(r'<th scope="col".*?>(.*?)</th>', text) == ["", "a &lt; b"]
    assert re.findall(r'<th scope="row".*?>(.*?)</th><td.*?>(.*?)</td>', text) == [("x &amp; y", "1"), ("z", "2")]


def test_a_table_can_be_folded_under_a_line(shown):
    for folded in ("", "All rows & more"):
        plots.table(["", "a"], [["x", "1"]], caption="One row.", folded=folded)
    plain, hidden = shown
    assert hidden == f"<details><summary>All rows &amp; more</summary>{plain}</details>" and plain.startswith("<table>")


def test_a_row_that_does_not_fit_the_table_is_refused():
    with pytest.raises(ValueError, match=r"rows must have 2 cells each, one for each of head, got \['only one'\]"):
        plots.table(["", "a"], [["only one"]], caption="No.")


def test_a_live_plot_is_the_same_picture_as_one_drawn_afresh():
    def make(values):
        figure, ax = plots.subplots(size=(3, 2))
        (line,) = ax.plot([0, 1, 2], values)
        ax.set(xlim=(0, 2), ylim=(0, 3))
        return live.LivePlot(figure, [line]), line

    plot, line = make([0, 0, 0])
    line.set_data([0, 1, 2], [1, 3, 2])
    plot.refresh()
    fresh, _ = make([1, 3, 2])
    assert (np.asarray(plot.picture()) == np.asarray(fresh.picture())).all()


def test_a_live_plot_draws_no_hidden_curve():
    figure, ax = plots.subplots(size=(3, 2))
    (line,) = ax.plot([0, 1], [0, 1])
    plot = live.LivePlot(figure, [line])
    with_it = np.asarray(plot.picture())
    line.set_visible(False)
    assert (np.asarray(plot.picture()) != with_it).any()


def test_png_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(live.png(Image.fromarray(pixels))))) == pixels).all()


# -- the schedule explorer ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digit() -> torch.Tensor:
    """A white stroke on black."""
    image = torch.full((1, 28, 28), -1.0)
    image[0, 6:22, 12:16] = 1.0
    return image


@pytest.fixture
def explorer(digit) -> live.Explorer:
    return explorers.build_schedule(digit)


def test_it_begins_with_the_linear_schedule_of_a_thousand_steps(explorer):
    assert explorer.values() | {"s": 0} == {
        "kind": "linear",
        "T": 1000,
        "beta_1": pytest.approx(1e-4),
        "beta_T": pytest.approx(0.02),
        "s": 0,
        "t": 200,
    }


def test_its_reading_gives_the_numbers_of_the_schedule(explorer):
    schedule = Schedule.linear(T=1000)
    assert "ᾱ_T = 4e-05" in explorer.reading.value
    assert f"at t = 200: ᾱ_t = {schedule.alpha_bar[200]:.3g}" in explorer.reading.value
    assert f"weight {schedule.alpha_bar[200].sqrt():.3f}" in explorer.reading.value


def test_it_warns_when_the_chain_does_not_end_in_noise(explorer):
    assert "The prior is missed" not in explorer.reading.value
    explorer.controls["T"].value = 200
    assert "ᾱ_T = 0.13" in explorer.reading.value and "The prior is missed" in explorer.reading.value


@pytest.mark.parametrize(
    ("name", "value"), [("kind", "sigmoid"), ("T", 300), ("beta_1", 1e-3), ("beta_T", 0.1), ("t", 700)]
)
def test_every_control_moves_the_picture(explorer, name, value):
    before = sent(explorer.plot.image)
    explorer.controls[name].value = value
    assert (sent(explorer.plot.image) != before).any()


def test_the_offset_moves_the_cosine_schedule(explorer):
    explorer.controls["kind"].value = "cosine"
    before = sent(explorer.plot.image)
    explorer.controls["s"].value = 0.1
    assert (sent(explorer.plot.image) != before).any()


def test_controls_without_a_meaning_are_switched_off(explorer):
    assert explorer.controls["s"].disabled
    explorer.controls["kind"].value = "cosine"
    assert explorer.controls["beta_1"].disabled and explorer.controls["beta_T"].disabled
    assert not explorer.controls["s"].disabled


def test_t_stays_within_a_chain_that_is_made_shorter(explorer):
    explorer.controls["t"].value = 900
    explorer.controls["T"].value = 50
    assert explorer.controls["t"].value == 50 and "at t = 50:" in explorer.reading.value


@pytest.mark.parametrize("kind", ["linear", "quadratic", "sigmoid", "cosine"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_every_kind_works_at_both_ends_of_the_sliders(explorer, kind, end):
    explorer.controls["kind"].value = kind
    for name in ("T", "beta_1", "beta_T", "s", "t"):
        control = explorer.controls[name]
        limit = getattr(control, end)
        control.value = 10**limit if isinstance(control, widgets.FloatLogSlider) else limit
        assert "nan" not in explorer.reading.value


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer.plot.image), explorer.reading.value
    explorer.controls["kind"].value, explorer.controls["T"].value, explorer.controls["t"].value = "cosine", 100, 3
    explorer.reset()
    assert (sent(explorer.plot.image) == first).all() and explorer.reading.value == reading


def test_every_control_has_a_name(explorer):
    assert all(control.description for control in explorer.controls.values())


def test_a_picture_stands_behind_the_explorer(digit, shown):
    explorers.schedule(digit)
    assert 'alt="Four panels for the linear schedule' in shown[0] and "ᾱ_T" in shown[0]
    assert picture_in(shown[0]).size == (1200, 940)  # two pixels for each of the page's


def test_the_picture_behind_an_explorer_is_the_one_that_it_shows(digit, shown):
    explorer = explorers.build_schedule(digit)
    first = np.asarray(explorer.plot.picture(), dtype=float)
    explorer.controls["kind"].value = "cosine"
    now = np.asarray(explorer.plot.picture(), dtype=float)
    explorer.show()
    small = picture_in(shown[0]).convert("RGB").resize(now.shape[1::-1], Image.Resampling.BOX)
    behind = np.asarray(small, dtype=float)
    assert (
        np.abs(behind - now).mean() < 0.7 * np.abs(behind - first).mean()
    )  # its edges are sharper: not the same pixels


@pytest.mark.parametrize("shape", [(28, 28), (2, 28, 28), (2, 1, 28, 28)])
def test_it_takes_one_image(shape):
    with pytest.raises(ValueError, match=r"image must be one image \(C, H, W\) with C = 1 or 3, got shape"):
        explorers.build_schedule(torch.zeros(shape))


# -- films and DDIM -----------------------------------------------------------------------------------------------------


def test_a_slider_over_pictures_shows_the_one_that_it_points_at():
    choices = [(f"number {i}", Image.new("L", (10, 10), i)) for i in (0, 100, 200)]
    explorer = explorers.build_pictures("Greys", "grey", choices, "A grey square.", 1)
    assert explorer.reading.value == "number 100"
    explorer.controls["number"].value = 2
    assert explorer.reading.value == "number 200" and (sent(explorer.plot.image) == 200).all()


def test_a_slider_over_no_pictures_is_refused():
    with pytest.raises(ValueError, match=r"choices must hold at least one \(reading, picture\) pair, got none"):
        explorers.pictures("Greys", "grey", [], "A grey square.")


def test_a_film_begins_in_the_middle(shown):
    explorers.film(frames())
    assert "t = 2: on the left x_t" in shown[0] and "Two grids of 4 pictures" in shown[0]


def test_behind_a_film_stand_its_stations_and_the_slider_stays_where_it_was(shown):
    film = explorers.build_film(frames(), start=0, stations=(0, 2))
    first = sent(film.plot.image)
    film.show()
    noisy, clear = (picture_in(f"<img{part}").convert("L") for part in shown[0].split("<img")[1:])
    assert re.findall(r"t = (\d+)", shown[0]) == [str(frames()[number].t) for number in (0, 2)]
    assert (np.asarray(noisy) == first).all() and (np.asarray(clear) != first).any()
    assert film.controls["number"].value == 0 and (np.asarray(film.plot.current) == first).all()


def test_a_station_that_is_no_frame_is_refused():
    with pytest.raises(ValueError, match=r"stations must be numbers of frames, 0 to \d+, got 99"):
        explorers.build_film(frames(), stations=(0, 99))


S_100 = Schedule.cosine(T=100)


@pytest.fixture(scope="module")
def ddim() -> live.Explorer:
    return explorers.build_ddim(GaussianDenoiser(S_100), S_100, initial_noise(seed=1, batch=4), steps=5)


def test_the_ddim_explorer_shows_what_the_sampler_draws(ddim):
    *_, last = ddim_sample(GaussianDenoiser(S_100), S_100, initial_noise(seed=1, batch=4), steps=5)
    expected = np.asarray(grid_image(last.x_t, columns=8))
    assert (sent(ddim.plot.image) == expected).all()


def test_the_ddim_explorer_tells_the_kinds_apart(ddim):
    ddim.controls["eta"].value = 1.0
    assert "DDPM's own noise" in ddim.reading.value
    ddim.reset()
    assert "5 steps · η" in ddim.reading.value and "deterministic" in ddim.reading.value


def test_the_ddim_explorer_says_how_far_it_is_from_where_many_steps_lead(ddim):
    """The exact end for data N(0, 1) is x_T itself; both samplers come nearer with more steps, 2M sooner."""
    x_T, away = initial_noise(seed=1, batch=4).clamp(-1, 1), {}
    for sampler in ("DDIM", "2M"):
        for steps in (5, 20):
            ddim.controls["sampler"].value, ddim.controls["steps"].value = sampler, steps
            distance = float(re.search(r"it is (\d\.\d{3}) away", ddim.reading.value)[1])
            away[sampler, steps] = distance
            if sampler == "DDIM":
                *_, last = ddim_sample(GaussianDenoiser(S_100), S_100, initial_noise(seed=1, batch=4), steps=steps)
                expected = (last.x_t.clamp(-1, 1) - x_T).square().mean().sqrt().item()
                assert distance == pytest.approx(expected, abs=0.004)
    assert away["DDIM", 5] > 3 * away["DDIM", 20] and away["2M", 20] < away["DDIM", 20] / 3
    ddim.controls["eta"].value = 1.0
    assert "2M, of second order, without fresh noise" in ddim.reading.value and "away" in ddim.reading.value
    ddim.controls["sampler"].value = "DDIM"
    assert "away" not in ddim.reading.value
    ddim.reset()


# -- a field of slopes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [(0.0, 2.0), (3.0, -0.5)])
def test_arrows_have_the_slope_of_the_field_one_length_and_point_to_the_right(limits):
    figure, ax = plots.subplots(size=(6, 3))
    ax.set(xlim=limits, ylim=(-2, 2))
    plots.arrows(ax, lambda y, x: y - x, number=7, length=9)
    (field,) = [artist for artist in ax.get_children() if hasattr(artist, "U")]
    x, y = field.get_offsets().T
    assert len(x) == 49 and x.max() < max(limits) and x.min() > min(limits)
    assert np.allclose(field.V / field.U, y - x) and (np.sign(field.U) == np.sign(limits[1] - limits[0])).all()
    place = ax.get_position()
    points = 72 * figure.get_size_inches() * [place.width, place.height]
    dx, dy = field.U * points[0] / (limits[1] - limits[0]), field.V * points[1] / 4
    assert np.allclose(np.hypot(dx, dy), 9)


# -- budget -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("full", 180), ("ci", 6)])
def test_the_budget_chooses(monkeypatch, name, value):
    monkeypatch.setenv("DIFFNOTES_BUDGET", name)
    assert budget(full=180, ci=6) == value


def test_a_reader_has_the_full_budget(monkeypatch):
    monkeypatch.delenv("DIFFNOTES_BUDGET", raising=False)
    assert budget(full=180, ci=6) == 180


def test_another_budget_is_refused(monkeypatch):
    monkeypatch.setenv("DIFFNOTES_BUDGET", "fast")
    with pytest.raises(ValueError, match='DIFFNOTES_BUDGET must be "full" or "ci", got \'fast\''):
        budget(full=180, ci=6)
