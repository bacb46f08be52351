"""What the texts of the project cite of the book, and what the book has: chapters, sections, equations, exercises, slips.

Everything that exists is read from the notebooks: a chapter's number (or an appendix's letter) from its title.
"""

import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from book_files import NOTEBOOKS, ROOT, code_cells, markdown_cells, read
from IPython.core.inputtransformer2 import TransformerManager

from diffnotes.book.exercises import EXERCISES

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
WORDS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]
WORDS += ["twenty-one", "twenty-two"]
NUMBER = rf"(?:\d+(?![\d.]*\d|\s?%)|\b(?:{'|'.join(reversed(WORDS))})\b)"  # not 2.5, nor 90 %
PART = r"(?:\d+|[A-Z])\.\d+"
AND = r"(?:,? and |,? or |, |-|–| to )"
NOT_A_NUMBER = r"(?<!\bthis )(?<!\bthat )(?<!\bthe )(?<!\beach )(?<!\bevery )"  # "in this chapter one meets"
OURS = r"(?<!\d\d\d\d, )(?<!\bet al\., )"  # not "Ho et al. 2020, appendix B"
IN_BRACKETS = r"(?<![\w\\)\]])\(((?:[1-9]\d?|[A-Z])\.[1-9]\d?)\)"  # not (0.5), (2.05), (0.125), f(1.5), N(1.2)
CITED = {
    "chapter": [
        rf"{NOT_A_NUMBER}\b[Cc]hapter[ -]({NUMBER})",
        rf"{NOT_A_NUMBER}\b[Cc]hapters ({NUMBER}(?:{AND}{NUMBER})*)",
        rf"{OURS}\b[Aa]ppendix ([A-Z])\b",
        rf"{OURS}\b[Aa]ppendices ([A-Z](?:(?:, | and )[A-Z])*)\b",
    ],
    "section": [
        rf"{OURS}\b[Ss]ection ({PART})",
        rf"{OURS}\b[Ss]ections ({PART}(?:{AND}{PART})*)",
        rf"#({PART})-\w",
    ],
    "exercise": [
        rf"\b[Ee]xercise ({PART})",
        rf"\b[Ee]xercises ({PART}(?:{AND}{PART})*)",
    ],
    "equation": [
        IN_BRACKETS,
        rf"\b(?:[Ee]qs?\.|[Ee]quations?) ?({PART}(?:{AND}{PART})*)",
        rf"\beq-({PART})",
        rf"""\bcheck\.(?:identity|inequality|definition|numeric|monte_carlo|discrete)\(["'`]({PART})["'`]""",
    ],
    "slip": [r"(?<![\w#-])([ADP]\d{2,3})(?![\w.-])", r"\.ipynb#([A-Z]\d{2,3})\b"],
    "exercise key": [r"""\bexercises\.check\(\\?["'](\d\d\.\d+|[A-Z]\.\d+)\b"""],
    "notebook": [r"\b(\d\d_[a-z]\w*)\.ipynb\b"],
    "module of exercises": [r"\bchapter_(\d\d|[A-Z])\b"],
}
LINK = re.compile(r"\[(?P<shown>[^\[\]]+)\]\((?P<to>[^)\s]+)\)|<a href=\"(?P<href>[^\"]+)\"[^>]*>(?P<text>[^<]*)</a>")
ROW = re.compile(r"^\| *(?P<shown>\w+) *\| *\[[^\[\]]+\]\((?P<to>[^)\s]+)\)", re.MULTILINE)  # of a table of chapters
PROSE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")]
FOLDERS = ["docs", "diffnotes", "tests", "benchmarks"]
OWN = [Path(__file__), Path(__file__).parent / "test_references.py"]  # these cite what does not exist, on purpose
MEASURED = {"docs/benchmarks.md"}  # a distance in brackets stands behind each name: an equation would be linked
INVENTED = {  # what tests make up, by file
    "tests/book/test_exercises.py": {"77.5"},
    "tests/book/test_export.py": {"01_one", "02_next", "03_other"},
    "tests/book/test_reader.py": {"10_chapter"},
    "tests/notebooks/test_checks_can_fail.py": {"01_weak"},
}


@dataclass(frozen=True)
class Text:
    """A piece of writing, and where it stands: a notebook's cell, or a file."""

    where: str
    words: str
    path: Path


@dataclass
class Book:
    """What there is to be cited, by kind; `files` has the notebook of every chapter and appendix."""

    files: dict[str, Path] = field(default_factory=dict)
    known: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in CITED})


def label_of(path: Path) -> str:
    """How the text calls a notebook: "4" for chapter 4, "A" for appendix A; its title says it."""
    title = re.match(r"# ([A-Z]|\d+) · ", read(path).cells[0].source)
    assert title, f"{path.name} should open with a title such as '# 4 · The forward process'"
    return title.group(1)


def headings(path: Path) -> list[str]:
    """The headings of the sections, without the marks."""
    return [h for _, cell in markdown_cells(path) for h in re.findall(r"^## (.*)$", cell.source, re.MULTILINE)]


def exercises(path: Path) -> list[str]:
    """The numbers of the exercises, as the text has them."""
    found = [re.findall(r"^\*\*Exercise (\S+?)\.\*\*", cell.source, re.MULTILINE) for _, cell in markdown_cells(path)]
    return [number for numbers in found for number in numbers]


@cache
def book() -> Book:
    """What the notebooks and the package have, read once."""
    found = Book()
    known = found.known
    for path in NOTEBOOKS:
        found.files[label_of(path)] = path
        known["notebook"].add(path.stem)
        known["section"] |= {part for heading in headings(path) for part in re.findall(rf"^({PART}) ", heading)}
        known["exercise"] |= set(exercises(path))
        for _, cell in markdown_cells(path):
            known["equation"] |= set(re.findall(r"\\tag\{([^}]*)\}", cell.source))
            known["slip"] |= set(re.findall(r'<a id="([A-Z]\d{2,3})"></a>', cell.source))
    known["chapter"] = set(found.files)
    known["exercise key"] = set(EXERCISES)
    modules = (ROOT / "diffnotes/book/exercises").glob("chapter_*.py")
    known["module of exercises"] = {path.stem.removeprefix("chapter_") for path in modules}
    return found


def written(source: str) -> str:
    """The comments and the strings of some Python, one below the other; the names of modules too."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    words = "\n".join(token.string for token in tokens if token.type in kinds)
    return "\n".join([words, *re.findall(r"\b(?:chapter_\w+|\w*exercises\.check\([^,\n]*)", source)])


def plain(words: str) -> str:
    """A text in one line: of formulas only what \\text{...} says, of links only what they show, no pictures."""
    words = re.sub(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\\n]*", "", words)
    words = re.sub(
        r"\$\$.*?\$\$", lambda m: " ".join(re.findall(r"\\text\{([^}]*)", m.group())), words, flags=re.DOTALL
    )
    words = re.sub(r"(?<![\\`\w])\$(?=\S)[^$\n]*\$", "x", words)
    words = re.sub(r"(?m)^\s*(?:#|>)+ ?|^\s*\"\"\"", "", words)  # the marks of comments and quotations
    return re.sub(r"\s+", " ", re.sub(r"\*+(?=\w)|(?<=\w)\*+", "", words))


def shown(words: str) -> str:
    """What a reader sees of a text: links and tags are gone, what they show remains."""
    return re.sub(r"</?[a-zA-Z][^>]*>", "", re.sub(r"\[([^\[\]]+)\]\([^)\s]+\)", r"\1", words))


@cache
def cited(words: str) -> list[tuple[str, str, str]]:
    """All that a text cites: (kind, number, the phrase)."""
    line = plain(words)
    found = []
    for text in dict.fromkeys((shown(line), line)):  # the second for the targets of links
        for kind, patterns in CITED.items():
            for match in (match for pattern in patterns for match in re.finditer(pattern, text)):
                phrase = text[max(0, match.start() - 30) : match.end() + 30]
                for number in re.split(AND, match.group(1)):
                    name = str(WORDS.index(number)) if number in WORDS else number
                    found.append((kind, name, match.group(), phrase))
    return [(kind, name, phrase) for kind, name, _, phrase in {entry[:3]: entry for entry in found}.values()]


def lost(texts: Iterable[Text], known: dict[str, set[str]] | None = None) -> list[str]:
    """What is cited and does not exist, with the place, the phrase, and what there is of its kind."""
    known = known or book().known
    problems = []
    for text in texts:
        for kind, number, phrase in cited(text.words):
            if number in known[kind] or number in INVENTED.get(text.where, ()):
                continue
            if text.where in MEASURED and kind == "equation" and re.search(IN_BRACKETS, phrase):
                continue
            near = sorted(name for name in known[kind] if name.split(".")[0] == number.split(".")[0])
            there = ", ".join(near or sorted({name.split(".")[0] for name in known[kind]}))
            problems.append(f"{text.where}: no {kind} {number} in '…{phrase}…'; there are {there}")
    return problems


@cache
def anchors(path: Path) -> set[str]:
    """What a link into a notebook may point at."""
    ids = {name for _, cell in markdown_cells(path) for name in re.findall(r'id="([^"]+)"', cell.source)}
    found = [h for _, cell in markdown_cells(path) for h in re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)]
    return ids | {heading.strip().replace(" ", "-") for heading in found}


def links(text: Text) -> Iterator[tuple[str, Path, str]]:
    """The links of a text into notebooks: what they show, the file, the anchor."""
    for match in [*LINK.finditer(text.words), *ROW.finditer(text.words)]:
        parts = match.groupdict()
        target = parts["to"] or parts["href"]
        name, _, anchor = target.partition("#")
        if not re.match(r"\w+:|.*[{\\]", target) and (
            name.endswith(".ipynb") or (not name and text.path.suffix == ".ipynb")
        ):
            yield parts["shown"] or parts["text"], NOTEBOOKS[0].parent / Path(name or text.path.name).name, anchor


def askew(texts: Iterable[Text]) -> list[str]:
    """The links that show one number and lead to another, or lead nowhere."""
    problems = []
    for text in (text for text in texts if text.where not in INVENTED):
        for words, path, anchor in links(text):
            place = f"{text.where}: [{words}] leads to {path.name}#{anchor}"
            if path not in NOTEBOOKS or (anchor and anchor not in anchors(path)):
                problems.append(f"{place}, which does not exist")
                continue
            label = label_of(path)
            agree = [words == label] if re.fullmatch(r"\d+|[A-Z]", words) else []
            for kind, number, _ in cited(words):
                part = (
                    anchor.removeprefix("eq-").removeprefix("section-").split("-")[0]
                )  # the number that the anchor has, if it has one
                match kind:
                    case "chapter":
                        agree.append(number == label)
                    case "equation" | "slip":
                        agree.append(number == part)
                    case "section" if anchor:
                        agree.append(number == part)
                    case "section" | "exercise":
                        agree.append(number.split(".")[0] == label)
            problems += [place] if not all(agree) else []
    return problems


NEIGHBOUR = re.compile(
    r"\b[Tt]he (?:(?P<next>next|following)|last|previous|preceding) chapter\b(?! of)"
    r"|\b[Tt]he chapter (?:(?P<after>after)|before)\b"
)


def neighbours(text: Text) -> list[str]:
    """Where a chapter is called the next or the last one without a link to the one that in fact follows or precedes."""
    place = NOTEBOOKS.index(text.path)
    problems = []
    for match in NEIGHBOUR.finditer(text.words):
        following = match["next"] or match["after"]
        beside = NOTEBOOKS[place + 1 :][:1] if following else NOTEBOOKS[:place][-1:]
        around = [link for link in LINK.finditer(text.words) if link.start() < match.start() < link.end()]
        targets = [Path((link["to"] or link["href"]).partition("#")[0]).name for link in around]
        if not beside or targets != [beside[0].name]:
            phrase = " ".join(text.words[max(0, match.start() - 60) : match.end() + 40].split())
            there = beside[0].name if beside else "no chapter there"
            problems.append(
                f"{text.where}: '…{phrase}…' should be a link to {there}, and leads to {targets or 'nothing'}"
            )
    return problems


@cache
def notebook_texts(path: Path) -> list[Text]:
    """All texts of a notebook: prose, comments and strings of the code, what its outputs say."""
    texts = []
    for i, cell in markdown_cells(path):
        texts.append(Text(f"{path.name}, cell {i}", cell.source, path))
    for i, cell in code_cells(path):
        source = TransformerManager().transform_cell(cell.source)
        texts.append(Text(f"{path.name}, code of cell {i}", written(source), path))
        for output in cell.outputs:
            data = output.get("data", {})
            said = [output.get("text", ""), *(data.get(kind, "") for kind in ("text/html", "text/plain"))]
            for words in dict.fromkeys("".join(entry) for entry in said):
                texts.append(Text(f"{path.name}, output of cell {i}", words, path))
    return texts


@cache
def file_texts() -> list[Text]:
    """All texts of the project outside the notebooks."""
    texts = []
    inside = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))
    for path in [*PROSE, *inside]:
        name = path.relative_to(ROOT).as_posix()
        if (
            path in OWN
            or not path.is_file()
            or "_build" in name
            or "node_modules" in name
            or name.startswith("docs/chapters/")
        ):
            continue
        if path.suffix == ".py":
            texts.append(Text(name, written(path.read_text(encoding="utf-8")), path))
        elif path.suffix in (".md", ".js", ".css") or path in PROSE:
            texts.append(Text(name, path.read_text(encoding="utf-8"), path))
    return texts
