"""Exercises that answer: right; wrong, with a counterexample and what it means; not tried yet.

    from diffnotes.book import exercises
    exercises.check("02.2", meet)      the number of the exercise, and the reader's answer
    exercises.overview()               what is solved so far, by chapter

The exercises of a chapter stand in a module of their own, chapter_02.py, in the kinds of kinds.py. What is solved is kept
in the user's data folder (progress.py).
"""

import difflib
import html
import re
from dataclasses import dataclass
from typing import Any

from IPython.display import display

from diffnotes.book.exercises import (
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
    chapter_13,
    chapter_14,
    chapter_15,
    chapter_16,
    chapter_17,
    chapter_18,
    chapter_19,
    chapter_20,
    chapter_21,
    chapter_22,
    chapter_90,
    progress,
)
from diffnotes.book.exercises.kinds import Exercise, Predict, Verdict
from diffnotes.book.proof.chapters import CHAPTERS, TAG, TITLES, address, label, number_of

EXERCISES: dict[str, Exercise] = {
    **chapter_01.EXERCISES,
    **chapter_02.EXERCISES,
    **chapter_03.EXERCISES,
    **chapter_04.EXERCISES,
    **chapter_05.EXERCISES,
    **chapter_06.EXERCISES,
    **chapter_07.EXERCISES,
    **chapter_08.EXERCISES,
    **chapter_09.EXERCISES,
    **chapter_10.EXERCISES,
    **chapter_11.EXERCISES,
    **chapter_12.EXERCISES,
    **chapter_13.EXERCISES,
    **chapter_14.EXERCISES,
    **chapter_15.EXERCISES,
    **chapter_16.EXERCISES,
    **chapter_17.EXERCISES,
    **chapter_18.EXERCISES,
    **chapter_19.EXERCISES,
    **chapter_20.EXERCISES,
    **chapter_21.EXERCISES,
    **chapter_22.EXERCISES,
    **chapter_90.EXERCISES,
}
MARKS = {"right": ("✓", "#009E73"), "wrong": ("✗", "#D55E00"), "untried": ("○", "#808080")}
CLOSING = "What-you-take-with-you"  # the section of a chapter that holds its exercises


@dataclass(frozen=True)
class Shown:
    """What a cell shows: HTML where it can be rendered, and the same as plain text."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def check(tag: str, answer: Any) -> None:
    """Say whether the answer to exercise `tag`, such as "05.2", is right, and keep what was solved.

    An answer that is missing (None, ..., a function that raises NotImplementedError or returns nothing) is not tried yet.
    ValueError only if there is no such exercise."""
    verdict = judge(tag, answer)
    problem = "" if verdict.state == "untried" else progress.keep(tag, verdict.state)
    note = f"Your progress could not be kept: {problem}." if problem else ""
    display(Shown(_as_text(tag, verdict, note), _as_html(tag, verdict, note)))


def judge(tag: str, answer: Any) -> Verdict:
    """What `check` shows, not shown and not kept."""
    if tag not in EXERCISES:
        near = [known for known in EXERCISES if known.split(".")[0] == str(tag).split(".")[0]]
        padded = str(tag).zfill(4)  # "2.2" for "02.2"
        near = near or [known for known in EXERCISES if known == padded]
        near = near or difflib.get_close_matches(str(tag), EXERCISES, cutoff=0.4) or list(EXERCISES)
        raise ValueError(f"tag must be the number of an exercise, such as {', '.join(near)}, got {tag!r}")
    return EXERCISES[tag].judge(answer)


def verdicts(tag: str) -> dict[str, str]:
    """What `check` shows, as HTML, for every option of an exercise that is a choice; nothing for the other kinds. For pages on
    which no code runs."""
    exercise = EXERCISES.get(tag)
    options = exercise.options if isinstance(exercise, Predict) else ()
    return {letter: _as_html(tag, judge(tag, letter), "") for letter in options}


def overview() -> None:
    """A table of the chapters: which exercises are solved, tried, and not tried yet."""
    kept = progress.read()
    columns = {"right": "✓ solved", "wrong": "✗ tried, not solved yet", "untried": "○ not tried yet"}
    chapters = sorted(set(map(number_of, EXERCISES)))
    tags = {
        (c, s): [t for t in EXERCISES if number_of(t) == c and kept.get(t, "untried") == s]
        for c in chapters
        for s in columns
    }
    solved = f"{sum(kept.get(tag) == 'right' for tag in EXERCISES)} of {len(EXERCISES)} exercises solved."

    rows = [f"<tr><th>chapter</th>{''.join(f'<th>{title}</th>' for title in columns.values())}</tr>"]
    lines = [solved]
    for chapter in chapters:
        title = f"{label(chapter)} · {TITLES[chapter]}"
        cells = [", ".join(map(_number, tags[chapter, state])) or "–" for state in columns]
        link = f'<a href="{CHAPTERS[chapter]}.ipynb#{CLOSING}">{title}</a>'
        rows.append(f"<tr><th>{link}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        lines.append(f"{title}: {'; '.join(f'{t} {cell}' for t, cell in zip(columns.values(), cells, strict=True))}")
    table = re.sub(r"<(t[hd])>", r'<\1 style="text-align:left">', f"<table>{''.join(rows)}</table>")
    display(Shown("\n".join(lines), f"<p>{solved}</p>{table}"))


def _number(tag: str) -> str:
    """ "05.2" as the text of the chapter names it: 5.2."""
    return tag.removeprefix("0")


def _as_html(tag: str, verdict: Verdict, note: str) -> str:
    mark, colour = MARKS[verdict.state]
    parts = [f"<div><b>{mark} Exercise {_number(tag)} · {html.escape(verdict.headline)}</b></div>"]
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;white-space:nowrap">{_lowered(html.escape(name))}</th>'
        f'<td style="text-align:left"><code>{html.escape(value)}</code></td></tr>'
        for name, value in verdict.rows
    )
    parts += [f'<table style="margin:4px 0">{rows}</table>'] if rows else []
    parts += [
        f"<div>{_linked(_lowered(html.escape(words)), number_of(tag))}</div>"
        for words in (verdict.words, note)
        if words
    ]
    return f'<div style="border-left:4px solid {colour};padding:2px 0 2px 12px">{"".join(parts)}</div>'


def _as_text(tag: str, verdict: Verdict, note: str) -> str:
    rows = [f"  {row}: {value}" for row, value in verdict.rows]
    lines = [f"{MARKS[verdict.state][0]} Exercise {_number(tag)} · {verdict.headline}", *rows, verdict.words, note]
    return "\n".join(filter(None, lines))


def _lowered(words: str) -> str:
    """x_t and ᾱ_{t-1} with their indices set low; log_p and mu_1, which are names in code, as they are."""
    return re.sub(r"(?<!\w)([^\W\d_][\u0300-\u036f]?)_(?:\{([^}]*)\}|(\w)(?!\w))", r"\1<sub>\2\3</sub>", words)


def _linked(words: str, chapter: int) -> str:
    """The words with links to the equations (2.4) and the slips (A22) that they name."""
    words = re.sub(rf"\(({TAG})\)", lambda m: f'<a href="{address(m[1], chapter)}">{m[0]}</a>', words)
    return re.sub(r"\(([AP]\d\d)\)", rf'<a href="{CHAPTERS[91]}.ipynb#\1">(\1)</a>', words)
