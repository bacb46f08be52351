"""The glossary, the index of symbols and the page on citing say what the book and the package say."""

import functools
import inspect
import re
import tomllib

import pytest
import yaml
from build_edition import ROOT

import diffnotes
from diffnotes.book.press.scan import equations
from diffnotes.book.proof.chapters import CHAPTERS

EQUATIONS = equations()
LINK = re.compile(r"\[\(([\dA.]+)\)\]\(\.\./notebooks/(\w+)\.ipynb#eq-([\dA.]+)\)")
# a letter as LaTeX writes it, with its font and its accent; and the commands that are no letters
LETTER = re.compile(
    r"\\(?:bar|hat|tilde)\{?(?:\\(?:mathbf|boldsymbol) ?\\?[A-Za-z]+\}?|\\?[A-Za-z]+\}?)"
    r"|\\(?:mathbf|boldsymbol|mathcal|mathsf|mathbb)\{? ?(?:\\[A-Za-z]+|[A-Za-z])"
    r"|\\(?:operatorname|mathrm)\{\w+\}|\\[A-Za-z]+|[A-Za-z]"
)
NO_LETTERS = re.compile(
    r"\\text\{[^}]*\}|\\text[^{]|\{\\(?:rm|sf) \w+\}|\^\{?\\(?:rm|sf) ?\w+\}?|_\{?\\(?:rm|sf) ?\w+\}?|\\(?:begin|end)\{\w+\}"
    r"|\\mathbf ?[01]|\\\\\[4pt\]"
)
COMMANDS = re.findall(
    r"\w+",
    """frac tfrac binom sqrt big Big quad qquad exp log ln cos sin max min arg sum prod int left right sim propto approx le ge ne
    to infty iff Longleftrightarrow Longrightarrow Rightarrow mapsto leftarrow top star dots cdot times pm underbrace overset
    langle rangle vert Vert cdots in""",
)


def table(name: str) -> list[list[str]]:
    """The rows of the tables on a page, without their heads."""
    lines = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in rows if row[0] not in ("English", "symbol")]


def letters(latex: str) -> list[str]:
    """The letters of a formula, in order."""
    found = LETTER.findall(NO_LETTERS.sub(" ", latex))
    plain = [re.sub(r"[{} ]", "", letter) for letter in found]
    return [letter for letter in plain if letter.removeprefix("\\") not in COMMANDS]


GLOSSARY, SYMBOLS = table("glossary"), table("symbols")


# -- glossary ----------------------------------------------------------------------------------------------------------


def test_the_glossary_is_of_a_useful_size():
    assert 80 <= len(GLOSSARY) <= 280


def test_the_glossary_is_in_alphabetical_order_and_has_no_term_twice():
    terms = [row[0].casefold() for row in GLOSSARY]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("row", GLOSSARY, ids=lambda row: row[0])
def test_an_entry_has_a_chinese_term_one_sentence_and_a_place(row: list[str]):
    _, chinese, meaning, where = row
    assert re.search(r"[\u4e00-\u9fff]", chinese) or chinese.startswith("U-Net")
    assert meaning[0].isupper() and meaning.endswith(".") and not re.search(r"[.] [A-Z]", meaning)
    chapter = re.fullmatch(r"\[chapter (\d+)\]\(\.\./notebooks/(\w+)\.ipynb\)", where)
    if chapter:
        assert CHAPTERS[int(chapter[1])] == chapter[2]
    else:
        (shown, notebook, tag), *more = LINK.findall(where)
        assert shown == tag and not more
        assert (tag, f"{notebook}.ipynb") in {(e.tag, e.notebook) for e in EQUATIONS}


# -- symbols -----------------------------------------------------------------------------------------------------------


@functools.cache
def listed() -> dict[str, list[str]]:
    """Every letter of the index, with the equations that its rows name."""
    found: dict[str, list[str]] = {}
    for symbol, _, _, where in SYMBOLS:
        for formula in re.findall(r"\$(.+?)\$", symbol):
            found.setdefault(letters(formula)[0], []).extend(tag for _, _, tag in LINK.findall(where))
    return found


def test_every_letter_of_a_numbered_equation_is_in_the_index():
    missing = {letter: e.tag for e in reversed(EQUATIONS) for letter in letters(e.latex) if letter not in listed()}
    assert missing == {}


def test_the_index_names_the_equation_where_a_letter_comes_up_first():
    first: dict[str, str] = {}
    for e in EQUATIONS:
        for letter in letters(e.latex):
            first.setdefault(letter, e.tag)
    wrong = {letter: (tags, first.get(letter)) for letter, tags in listed().items() if first.get(letter) not in tags}
    assert wrong == {}


@pytest.mark.parametrize("row", SYMBOLS, ids=lambda row: row[0])
def test_a_symbol_stands_in_the_equations_that_its_row_names(row: list[str]):
    latex = {e.tag: letters(e.latex) for e in EQUATIONS}
    heads = [letters(formula)[0] for formula in re.findall(r"\$(.+?)\$", row[0])]
    tags = [tag for _, _, tag in LINK.findall(row[3])]
    assert heads and tags
    assert [head for head in heads if not any(head in latex[tag] for tag in tags)] == []
    assert [tag for tag in tags if not any(head in latex[tag] for head in heads)] == []


@pytest.mark.parametrize("code", [row[2].strip("`") for row in SYMBOLS if row[2]])
def test_a_name_in_the_code_exists(code: str):
    path, _, argument = code.rstrip(")").partition("(")
    owner = thing(path.split(".")[0])
    for part in path.split(".")[1:]:
        owner = getattr(owner, part, None) or owner.__annotations__[part]
    if argument:
        assert argument in inspect.signature(owner).parameters


def thing(name: str) -> object:
    """A class or function of the package, by the name that only one of its modules gives it."""
    modules = [path for part in ("process", "models", "training") for path in (ROOT / "diffnotes" / part).glob("*.py")]
    homes = [path for path in modules if re.search(rf"^(?:def|class) {name}\b", path.read_text(encoding="utf-8"), re.M)]
    assert len(homes) == 1, f"{name} is defined in {homes}"
    module = f"diffnotes.{homes[0].parent.name}.{homes[0].stem}"
    return getattr(__import__(module, fromlist=[name]), name)


# -- how to cite -------------------------------------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_has_the_version_of_the_package(citation: dict):
    assert citation["version"] == PROJECT["version"] == diffnotes.__version__


def test_the_citation_has_the_licences_of_the_package(citation: dict):
    assert " AND ".join(citation["license"]) == PROJECT["license"]


def test_the_page_cites_what_the_file_for_programs_cites(citation: dict):
    page = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    entry = dict(re.findall(r"^  (\w+) += \{+(.+?)\}+,?$", page, re.MULTILINE))
    assert entry["title"] == citation["title"] and entry["version"] == citation["version"]
    assert entry["author"] == citation["authors"][0]["name"]
    assert f"diffnotes {citation['version']}, equation" in page
