import json
from pathlib import Path

import pytest

from diffnotes.book import measured as module
from diffnotes.book.press.measured import (
    CHOICES,
    TITLES,
    ablation_table,
    measured,
    provenance,
    quality_alt,
    quality_figure,
    steps_figure,
    with_error,
)

MACHINE = {"cpu": "Two Cores", "cores": 2, "gpu": None, "torch": "2.0", "date": "2026-01-02"}


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of numbers with two sections, in the place of the repository's."""
    path = tmp_path / "results.json"
    entry = {"trial": False, "command": "python -m benchmarks steps", "machine": MACHINE, "data": {"samples": 7}}
    trial = {**entry, "trial": True, "machine": {**MACHINE, "gpu": "One GPU"}}
    path.write_text(json.dumps({"steps": entry, "cost": trial}), encoding="utf-8")
    monkeypatch.setattr(module, "PATH", path)
    return path


def test_it_reads_the_file_that_the_benchmarks_write():
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert module.PATH.resolve() == docs / "benchmarks" / "results.json" and module.PATH.is_file()


def test_the_numbers_of_a_section(numbers: Path):
    assert measured("steps") == {"samples": 7}


def test_provenance_is_one_sentence(numbers: Path):
    said = provenance("steps")
    assert said == "Measured on 2026-01-02 on Two Cores with 2 cores, with torch 2.0, by python -m benchmarks steps."


def test_a_trial_run_says_that_it_is_one(numbers: Path):
    assert provenance("cost").startswith("Measured in a trial run, too short for the numbers to mean anything, on 2026")
    assert "on One GPU" in provenance("cost")


@pytest.mark.parametrize("read", [measured, provenance])
def test_a_section_that_was_not_measured_names_what_is_there_and_the_command(read, numbers: Path):
    with pytest.raises(ValueError, match=r"'steps', 'cost', got 'speed'; python -m benchmarks speed measures it"):
        read("speed")


def test_without_any_numbers_the_command_is_named_too(numbers: Path):
    numbers.unlink()
    with pytest.raises(ValueError, match=r"none so far, got 'steps'; python -m benchmarks steps measures it"):
        measured("steps")


def test_the_figure_shows_each_number_in_its_place():
    def point(steps: int, value: float) -> dict:
        number = {"value": value, "error": 0.1}
        return {"steps": steps, "frechet": number, "recognised": {**number, "value": value / 100}}

    curves = {
        name: {"uniform": [point(5, 40.0 + i), point(10, 9.0)], "quadratic": [point(5, 60.0), point(10, 20.0 + i)]}
        for i, name in enumerate(("a", "b", "c", "d"))
    }
    figure = steps_figure({"curves": curves, "perfect": point(0, 2.0)})
    left, right = figure.axes
    drawn = [container.lines[0] for container in left.containers]
    assert [line.get_ydata().tolist() for line in drawn[:4]] == [[40.0, 9.0], [60.0, 20.0], [41.0, 9.0], [60.0, 21.0]]
    assert [line.get_linestyle() for line in drawn] == ["-", "--"] * 4
    assert len({line.get_color() for line in drawn}) == 4 and drawn[0].get_color() == drawn[1].get_color()
    assert right.containers[2].lines[0].get_ydata() == pytest.approx([0.41, 0.09])
    assert (left.get_xscale(), left.get_yscale(), right.get_yscale()) == ("log", "log", "linear")
    assert {"a", "b", "c", "d", "real images"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def quality_point(updates: float, frechet: float) -> dict:
    return {
        "in_our_updates": updates,
        "frechet": {"value": frechet, "error": 0.5},
        "recognised": {"value": 0.5, "error": 0.01},
    }


def test_the_curves_of_quality_show_each_number_and_real_images_below():
    curves = {"ours": [quality_point(288, 13.0), quality_point(840, 2.0)], "large": [quality_point(900, 60.0)]}
    (axes,) = quality_figure({"curves": curves, "perfect": quality_point(0, 0.3)}).axes
    ours, large = (container.lines[0] for container in axes.containers)
    assert ours.get_xdata().tolist() == [288, 840] and ours.get_ydata().tolist() == [13.0, 2.0]
    assert large.get_ydata().tolist() == [60.0] and (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    (real,) = (line for line in axes.lines if line.get_label() == TITLES["perfect"])
    assert set(real.get_ydata()) == {0.3}


def test_the_curves_in_words_say_where_each_of_them_ends():
    curves = {"ours": [quality_point(288, 13.0), quality_point(840, 2.054)], "large": [quality_point(1026.4, 600.3)]}
    words = quality_alt({"curves": curves, "perfect": quality_point(0, 0.3)})
    assert words.endswith(
        f"{TITLES['ours']} 2.05 at 840; {TITLES['large']} 600 at 1,026; MNIST itself, a dashed line at the bottom, 0.3."
    )


def test_the_table_of_changes_is_in_the_books_order_and_ends_with_real_images():
    row = {"parameters": 671620, "updates": 900, "images_per_second": 215.3, **quality_point(90, 4.25)}
    head, rows = ablation_table({"rows": {"eps": row, "base": row}, "perfect": quality_point(0, 0.3)})
    assert [line[0] for line in rows] == [CHOICES["base"], CHOICES["eps"], TITLES["perfect"]]
    assert rows[0][1:] == ["671,620", "900", "215", "4.25 ± 0.50", "0.500 ± 0.010"] and {
        len(line) for line in rows
    } == {len(head)}


@pytest.mark.parametrize(
    ("value", "error", "text"), [(2.345, 0.12, "2.35 ± 0.12"), (61.2, 3.0, "61.2 ± 3.0"), (0.5, 0.0, "0.50 ± 0.00")]
)
def test_an_error_decides_how_many_digits_are_told(value: float, error: float, text: str):
    assert with_error({"value": value, "error": error}) == text
