"""The errata clinic's own rules: every slip has its line in the contents, its place to link to, and its refusal."""

import re
from pathlib import Path

import nbformat

CLINIC = Path(__file__).parents[2] / "notebooks" / "91_errata_clinic.ipynb"
CELLS = nbformat.read(CLINIC, as_version=4).cells
TEXTS = [cell.source for cell in CELLS if cell.cell_type == "markdown"]
SLIP = re.compile(r'^(?:### |\| )<a id="([ADP]\d+)"></a>\1 [·|] ?(.*)$', re.MULTILINE)


def test_the_contents_list_every_slip_under_its_section():
    rows = next(text for text in TEXTS if text.startswith("## Contents")).splitlines()[4:]
    listed = [(row.split("|")[1].split()[0], re.findall(r"\[(\w+)\]\(#\1\)", row)) for row in rows]
    there: list[tuple[str, list[str]]] = []
    for text in TEXTS:
        for section, slip in re.findall(r'^## (91\.\d+)|<a id="([ADP]\d+)">', text, re.MULTILINE):
            if section:
                there.append((section, []))
            elif slip:
                there[-1][1].append(slip)
    assert listed == there and sum(len(slips) for _, slips in there) > 100


def test_every_slip_is_refused_by_name():
    named = {slip for text in TEXTS for slip in re.findall(r'<a id="([ADP]\d+)">', text)}
    refused = {
        name for cell in CELLS if cell.cell_type == "code" for name in re.findall(r'refuses\(\s*"(\w+)"', cell.source)
    }
    assert refused == named


def test_every_slip_has_a_heading_or_a_line_of_the_table():
    anchors = [slip for text in TEXTS for slip in re.findall(r'<a id="([ADP]\d+)">', text)]
    assert [slip for text in TEXTS for slip, _ in SLIP.findall(text)] == anchors
