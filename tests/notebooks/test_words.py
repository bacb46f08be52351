"""The words of the book are those of the field: what must not come back, and the names that must stand somewhere.

To see every offence in a file or a folder, with the words around it and what the field says instead:

    python tests/notebooks/test_words.py notebooks/01_forward_process.ipynb

An offence is named by its line; in a notebook by its cell, counted from 0, and by what it stands in: text, code, output.
"""

import html
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = (
    "README.md",
    "CONTRIBUTING.md",
    "notebooks/*.ipynb",
    "diffnotes/**/*.py",
    "diffnotes/**/*.md",
    "docs/*.md",
    "docs/*.py",
    "benchmarks/*.py",
    "tests/**/*.py",
)

NET = (
    r"(?:neural |trained |small |shipped |perfect |exact |same |own )*(?:networks?|nets?|models?|U-Nets?|VAEs?"
    r"|decoders?|encoders?|denoisers?|samplers?|predictors?|classifiers?)"
)
DOES = (
    r"(?: (?:that|which|who|it|itself|does|do|did|not|no longer|cannot|can|could|may|must|should|would|will|already"
    r"|still|never|here|now|has|have|really|only))*"
)
KNOWN_TO_A_NETWORK = (
    r"(?:(?:the|its|their|a|an|no|another|wrong|right|true|each|all|image's|digit's|picture's) )*(?:times?|labels?|truth"
    r"|kinds?|class(?:es)?|digits?|clock|noise level|\$?t\$?(?=\W)|\$y|which digit|how noisy|nothing)"
)
SPREAD = (
    r"(?:bell|gaussian|distribution|normal|posterior|prior|decoder|encoder|noise|guess|prediction|estimate|truth|data)"
)


@dataclass(frozen=True)
class Word:
    """A pattern, without regard to case; where it stands in `but`, it is meant otherwise and spared.

    A space in a pattern stands for any white space, hyphens, underscores and asterisks, so that names in code and
    emphasis are met too. `not_in` names files where the word has its plain meaning throughout.
    """

    pattern: str
    instead: str
    bad: tuple[str, ...]
    good: tuple[str, ...] = ()
    but: str = ""
    not_in: tuple[str, ...] = ()

    @cached_property
    def found(self) -> re.Pattern[str]:
        return _compiled(rf"(?<![A-Za-z])(?:{self.pattern})(?![A-Za-z])")

    @cached_property
    def spared(self) -> re.Pattern[str] | None:
        return _compiled(rf"(?:{self.but})") if self.but else None

    def hits(self, text: str) -> list[re.Match[str]]:
        """Where the word stands in a text, and is not spared."""
        spans = [m.span() for m in self.spared.finditer(text)] if self.spared else []
        return [m for m in self.found.finditer(text) if not any(a < m.end() and m.start() < b for a, b in spans)]


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(" (?![+*?{])", lambda _: r"[\s_*-]+", pattern), re.IGNORECASE)


WORDS = (
    Word(
        "laws?",
        "distribution (joint, conditional, marginal distribution)",
        ("the law of x_t given x_0", "two laws are compared", "chain.law(3, seed=1)", "law_of_Y = 1"),
        (
            "the law of total variance",
            "by the law of large numbers",
            "scaling laws of transformers",
            "a power law",
            "lawn",
        ),
        r"laws? of (?:the )?(?:total|iterated|large numbers|cosines|small numbers)|(?:scaling|power|neural scaling) laws?",
    ),
    Word(
        "pric(?:e|es|ed|ing)",
        "KL divergence, rate, or cost",
        ("the price of a code", "at what price", "def test_price_of_a_step():", "Two prices are in it"),
        ("the rate of a code", "at a cost of two calls"),
    ),
    Word(
        "guess(?:es|ed|ing)?",
        "prediction (of a network), estimate (of a value), approximate posterior (q of a VAE)",
        ("the guess of the noise", "a network that guesses the image", "the guessed noise", "guess = model(x_t, t)"),
        ("your guess is judged at once", "mimetypes.guess_type(name)", "Guess before you run the cell."),
        r"your (?:own |first )?guess(?:es)?|guess type|guess (?:first|before you)|a (?:lucky|wild|reader's) guess",
    ),
    Word(
        "heaps?",
        "sample set, set of samples; cluster (of points)",
        ("a heap of pictures", "ten small heaps on a circle", "for name, heap in heaps.items():"),
        ("import heapq",),
    ),
    Word(
        "crowd(?:s|ed|ing)?",
        "sample set, set of samples; points that cluster",
        ("two crowds of images", "draws crowd here and leave gaps there"),
        ("two sets of images",),
    ),
    Word(
        "floors?",
        "level (of a hierarchy); irreducible loss (of a task); lower bound, clamp (of a variance); baseline (of a timing)",
        ("the upper floors", "the floor under the loss", "a floor of 0 under the logarithm"),
        ("math.floor(x + 0.5)", r"\left\lfloor x\right\rfloor", "sp.floor(x)"),
        r"\.floor\b|floor\(|floor division|[lr]floor",
    ),
    Word(
        r"houses?|(?:the|this|that|a|same|whole|our) building(?! (?:block|a|an|the|of|is done|takes))",
        "hierarchy, chain, example",
        ("the smallest house", "the whole building is called a hierarchical VAE"),
        ("the building block", "building the schedule", "household"),
    ),
    Word(
        "languages?|dialects?",
        "prediction target, parameterisation (epsilon, x0, v, score)",
        ("one guess, four languages", "in the language of the noise", "answers in the wrong dialect"),
        ("a language model", "diffusion for language", "vision-language models", 'Code(text, language="python")'),
        r"language model\w*|(?:natural|programming|configuration|plain|vision) languages?"
        r'|terms in both languages|for language|words, language|language=|"language"|\.language',
    ),
    Word(
        "memor(?:y|ies)",
        "optimal denoiser of the training set; memorisation",
        ("a memory of a hundred images", "the memory's loss on new images", "memory = DatasetDenoiser(noise, images)"),
        ("128 GiB of memory", "write the training step from memory", "the peak memory of a step", "memory_format=x"),
        r"memory (?:format|mib|gib|of a (?:training )?step)|memory (?:in|of) (?:one|a|each) (?:update|process)"
        r"|(?:of|in|into|out of|fill the|machine's|from|peak|gpu|resident|working|free|less|more|much|any|short of|no) memory"
        r"|memory (?:of the (?:gpu|machine|computer)|is full|is enough|runs out|error)|MemoryError|memory(?:-| )mapped"
        r"|(?:speed|time|operations|parameters|weights|compute)(?:,| and) memory|memory,? (?:and|or) (?:time|speed|compute)",
        ("/benchmarks", "/test_benchmarks"),
    ),
    Word(
        "by heart",
        "memorised",
        ("it knows the rest by heart", "by_heart = DatasetDenoiser(schedule, x)"),
        ("memorised training images",),
    ),
    Word(
        "ceilings?",
        "upper bound",
        ("not a floor but a ceiling", "a bound knows no such ceiling"),
        ("math.ceil(x)", r"\lceil x\rceil"),
    ),
    Word(
        r"(?:normali[sz]e(?:s|d)?(?: again)?,|,) bend,|normali[sz]ations? and bends|bends? between|the bend"
        r"|(?:a|each|no|any|every) bends? (?:after|that)",
        "nonlinearity, activation (SiLU)",
        (
            "small linear layers with a bend between them",
            "Read it as: normalise, bend, convolve",
            "normalisations and bends",
        ),
        ("These curves bend little", "arrow(ax, start, end, bend, colour)", "averages of bent curves"),
    ),
    Word(
        r"(?:pairs of|number of|n|\$n\$|49|784|exchange the|all|many|four|few|second) places?(?! after)|places few"
        r"|each place|every place|(?:question|key|answer|value) of (?:a |the )?place|(?:tells?|about|where) a place",
        "position (of a feature map, of a sequence); pixel",
        ("Write the $n$ places of a picture", "the key of place $j$", "each place asks a question", "all 784 places"),
        (
            "in many places",
            "to four decimal places",
            "in the second place",
            "takes the place of the label",
            "in place of",
        ),
        r"(?:in|at) (?:many|all|four|a few|few) places?|decimal places?|in the second place|the second place",
    ),
    Word(
        "witness(?:es)?",
        "source of information, observation; factor",
        ("two witnesses are better than one", "def meet(witnesses):"),
        ("two sources of information",),
    ),
    Word(
        r"dear(?:er|est)?",
        "costly, or the number",
        ("believing in one that is too narrow is dear", "the way up is dear because"),
        ("a dearth of data",),
    ),
    Word(
        "whoever|whomever",
        "a reader who, if you; or turn the sentence",
        ("Whoever wants to know whether",),
        ("If you",),
    ),
    Word(
        r"(?-i:True) is(?:: | that |:)",
        "What holds is; or state it",
        ("True is: for *fixed* variances, equal or not,",),
        ("This is true: the mean is", "if flag is True: return"),
    ),
    Word(
        rf"{NET}{DOES} (?:knows?|knew|known|believes?|thinks?|remembers?|forgets?|says?|said|wants?|tells?|speaks?"
        r"|testif(?:y|ies))(?! (?:apart|from))|it (?:knows|believes|thinks|remembers)|knows? (?:nothing|the rest)"
        r"|know(?:s|ing)? (?:no|its|their|the|ten|\d+) labels?|knows? no digits|can testify",
        "a network predicts, outputs, depends on, is conditioned on; a distribution has, is independent of",
        (
            "The network knows which digit it is",
            "what the model believes",
            "so they can testify that it is right",
            "A network that says its $v$",
            "the network does not know this",
            "it knows 10 labels",
            "pixels that know nothing of each other",
        ),
        ("We know the image", "the model is known to be biased", "a denoiser is trained", "what the network predicts"),
        rf"(?:we|you|reader|student|nobody|no one) (?:already |still |now |do not |does not |cannot )*(?:knows?|believes?)"
        rf"|{NET} (?:is|are|was|were) known|(?:is|are) said",
    ),
    Word(
        rf"(?:(?:is|are|was|were|not) )?told {KNOWN_TO_A_NETWORK}|tell(?:s|ing)? (?:the|a|our|this|such a) {NET}"
        rf"|told (?:the|a|our|this) {NET}|(?:{NET}|blocks?|each)(?: (?:that|which|who))? (?:is|are|was|were)(?: not| never)? told"
        r"|it (?:is|was)(?: not)? told(?! (?:why|with|in|apart|from))|not told \$|nobody(?: has)?(?: ever)? told"
        r"|tells? (?:the )?time|the layers that tell|tell it (?:another|the|a) (?:time|label|floor|level)|told (?:the )?kind",
        "the network is given t (the label), is conditioned on it; unconditional",
        (
            "how is it told the time?",
            "the network that is told the label",
            "Each of its blocks is told the time $t$",
            "one who is told the wrong time",
            "Nobody told the network which digits to draw",
            "def _told_the_kind():",
        ),
        ("Suppose we are told $x_0$", "they cannot be told apart", "the error is told with the way out"),
    ),
    Word(
        r"left to choose|leav\w+ (?:it )?to choose|left to itself|free to choose which digit",
        "unconditional, without a label",
        ("digits of a network left to choose", "the rest is left to itself"),
        ("unconditional samples", "there is nothing left to choose"),
        "nothing left to choose",
    ),
    Word(
        r"(?:more|less|very|so|too|asked?|asks) firmly|firmly asked|ask\w*(?: \w+){0,4} (?:firmly|softly|loudly)"
        r"|(?:how|more) loud(?:ly|er)?|label louder|loud codes?",
        "guided, with guidance scale s; a larger guidance scale",
        ("asked for 0 to 9, asked more firmly with s = 2", "how loudly the classifier speaks", "says the label louder"),
        ("guided samples", "The cell holds firmly."),
    ),
    Word(
        r"with the pen|by the pen|the pen (?:saves|takes|does)",
        "analytically, in closed form",
        ("Averaged with the pen it grows slowly", "the part that the pen saves"),
        ("how thick the pen is", "a slip of the pen", "with pen and paper"),
    ),
    Word(
        r"linear(?:ly)? spac(?:ing|ed)",
        "uniform spacing (a linear *schedule* is something else)",
        ("with linear spacing of the times", "linearly spaced steps"),
        ('spacing "linear" is now called "uniform"', "the linear schedule"),
    ),
    Word(
        rf"{SPREAD}(?:'s|s|s')?(?: own)? widths?|(?:wrong|natural|true|learned|fixed|(?:model|step)'s) widths?"
        rf"|widths? of (?:(?:the|a|its|each|one|every|this) )*{SPREAD}s?|widths? (?:\$\\sigma|\$\\sqrt|sigma|σ|differ|agree)"
        r"|(?:mean|centre|center)s? and (?:\*?a |its |the |one )?widths?|square\*? of the width|square: the width"
        r"|the width (?:too|away|of a step|of the step|is untouched|comes first)|twice as wide|with one width",
        "standard deviation, or variance; say which",
        (
            "a centre $\\mu$ and a width $\\sigma>0$",
            "the posterior's own width",
            "a decoder with a fixed width",
            "the price of a wrong width",
            "each bell with the width $\\sqrt{x}$",
        ),
        ("UNet(width=32)", "the width of the image", "a convolution of width $k$", "a strip of width $\\sigma\\,dz$"),
        r"strip of width",
    ),
    Word(
        r"lengths? of (?:the|a|its|each|all) (?:\w+ )?gradients?|gradients?(?:'s|') lengths?|gradient length",
        "gradient norm",
        ("the length of the gradient", "length of its whole gradient", "the gradient's length"),
        ("the norm of the gradient", "the length of the chain"),
    ),
    Word(
        r"(?:the|a|its|this|that|whose|up the) bills?",
        "cost (parameters, operations, seconds); what the chain pays is its KL",
        ("the bill in section 8.8", "the bound presents the bill"),
        ("billion", "the cost of attention"),
    ),
    Word(
        r"dice themselves|leaps? out of the picture|thrown back again|treaty|(?:has|have|had) a hard life|only logarithms love"
        r"|mutilated|in good standing|what is no matrix|reading takes as long as|takes half as much again",
        "say plainly what happens",
        ("What you see is the treaty", "a nat is a unit that only logarithms love", "the mutilated formula"),
        ("What you see is the trade-off",),
    ),
)

NAMES = {  # the standard names, as a reader of the papers would search for them
    "amortised inference": r"amorti[sz]ed inference",
    "approximate posterior": r"approximate posterior",
    "marginal likelihood": r"marginal likelihood",
    "Bernoulli likelihood": r"Bernoulli likelihood",
    "posterior collapse": r"posterior collapse",
    "importance-weighted bound": r"importance[- ]weighted (?:\w+ )?bound",
    "mode covering": r"mode[- ]covering",
    "mode seeking": r"mode[- ]seeking",
    "variance exploding": r"variance[- ]exploding",
    "Wasserstein": r"Wasserstein",
    "optimal transport": r"optimal transport",
    "FID": r"\bFID\b",
    "Min-SNR": r"Min-SNR",
    "Newton-Schulz": r"Newton[-–]Schulz",
    "v-prediction": r"\bv-prediction",
    "probability-flow ODE": r"probability[- ]flow ODE",
    "SDE": r"\bSDEs?\b",
    "ancestral sampling": r"ancestral sampl(?:ing|er)",
    "prediction target": r"prediction target",
    "optimal denoiser": r"optimal denoiser",
    "irreducible loss": r"irreducible (?:loss|error)",
    "gradient norm": r"gradient norm|norm of the gradient",
    "nonlinearity": r"nonlinearit(?:y|ies)",
    "unconditional": r"unconditional",
}


@dataclass(frozen=True)
class Offence:
    """A house word where the field has its own."""

    where: str
    around: str
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.found.split())!r} in: ...{self.around}...\n    the field says: {self.instead}"


def flowing(text: str) -> str:
    """A text whose sentences run on over the ends of lines: strings in pieces and comments in lines, at equal length."""
    blank = re.compile(r"""["'][ ]*\n\s*f?["']|\n\s*#+(?=\s)""")
    return blank.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def pieces(path: Path) -> Iterator[tuple[str, str]]:
    """What a reader can read in a file: (where, text), a notebook's cells and stored outputs one by one."""
    if path.suffix != ".ipynb":
        yield path.name, path.read_text(encoding="utf-8")
        return
    for i, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        kind = "text" if cell["cell_type"] == "markdown" else "code"
        yield f"{path.name} cell {i} ({kind})", "".join(cell["source"])
        for output in cell.get("outputs", []):
            shown = {**output.get("data", {}), "stream": output.get("text", "")}
            for mime, text in shown.items():
                if mime.startswith(("text/", "stream")) or mime == "image/svg+xml":
                    plain = re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", "".join(text))
                    yield f"{path.name} cell {i} (output)", html.unescape(plain)


def offences(path: Path, words: tuple[Word, ...] = WORDS) -> list[Offence]:
    """Every house word in a file, in the order of the words."""
    full = path.resolve().as_posix()
    found = []
    for where, text in pieces(path):
        line = flowing(text)
        for word in words:
            if any(part in full for part in word.not_in):
                continue
            for hit in word.hits(line):
                around = " ".join(line[max(0, hit.start() - 60) : hit.end() + 60].split())
                place = where if path.suffix == ".ipynb" else f"{where}:{line.count(chr(10), 0, hit.start()) + 1}"
                found.append(Offence(place, around, hit.group(), word.instead))
    return found


def files(root: Path = ROOT) -> list[Path]:
    """What is scanned: the book, the package, the pages, the tests; not this list itself."""
    found = {path for pattern in FILES for path in root.glob(pattern)}
    return sorted(path for path in found if path.name != Path(__file__).name)


def prose(root: Path = ROOT) -> str:
    """The text cells of the whole book, without its code."""
    books = sorted(root.glob("notebooks/*.ipynb"))
    text = "\n\n".join(text for path in books for where, text in pieces(path) if where.endswith("(text)"))
    return re.sub(r"\s+", " ", re.sub(r"```.*?```|\]\([^)]*\)", "]", text, flags=re.DOTALL))


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_house_word_has_come_back(path: Path):
    found = offences(path)
    assert not found, "\n" + "\n".join(map(str, found))


@pytest.mark.parametrize("name", NAMES)
def test_the_book_has_the_name_that_the_field_uses(name: str):
    assert re.search(NAMES[name], prose(), 0 if name in ("FID", "SDE") else re.IGNORECASE), f"no chapter has {name!r}"


@pytest.mark.parametrize(("word", "sentence"), [(word, sentence) for word in WORDS for sentence in word.bad])
def test_a_house_word_is_found(word: Word, sentence: str):
    assert word.hits(flowing(sentence))


@pytest.mark.parametrize(("word", "sentence"), [(word, sentence) for word in WORDS for sentence in word.good])
def test_the_same_word_in_its_plain_meaning_is_spared(word: Word, sentence: str):
    assert not word.hits(flowing(sentence))


def test_words_are_found_in_every_part_of_a_notebook_and_in_broken_lines(tmp_path: Path):
    shown = {"data": {"text/html": ['<img src="data:image/png;base64,lawLAW/law=" alt="two bells, the price of one">']}}
    printed = {"output_type": "stream", "text": ["a heap\n", "of pictures"]}
    cells = [
        {"cell_type": "markdown", "source": ["Averaged with the\n", "pen it grows."]},
        {
            "cell_type": "code",
            "source": ['alt = "left to "\n', '      "choose"  # the law'],
            "outputs": [shown, printed],
        },
    ]
    book = tmp_path / "x.ipynb"
    book.write_text(json.dumps({"cells": cells}))
    assert [(o.where.removeprefix("x.ipynb "), " ".join(o.found.split())) for o in offences(book)] == [
        ("cell 0 (text)", "with the pen"),
        ("cell 1 (code)", "law"),
        ("cell 1 (code)", "left to choose"),
        ("cell 1 (output)", "price"),
        ("cell 1 (output)", "heap"),
    ]
    code = tmp_path / "x.py"
    code.write_text('"""One."""\nNAME = (\n    "averaged with the "\n    "pen"\n)\n# not\n# told the\n# time\n')
    assert [(o.where, " ".join(o.found.split())) for o in offences(code)] == [
        ("x.py:6", "not told the time"),
        ("x.py:3", "with the pen"),
    ]


def test_a_file_where_a_word_is_plain_throughout_is_spared_that_word_only(tmp_path: Path):
    (tmp_path / "benchmarks").mkdir()
    page = tmp_path / "benchmarks" / "speed.py"
    page.write_text("# the memory that a law takes\n")
    assert [o.found for o in offences(page)] == ["law"]


def main(arguments: list[str]) -> int:
    """Print the offences of the files and folders named, or of everything; 1 if there are any."""
    named = [Path(argument) for argument in arguments]
    inside = [p for path in named for p in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    paths = [p for p in inside if p.suffix in (".ipynb", ".py", ".md") and p.name != Path(__file__).name] or files()
    count = 0
    for path in paths:
        for offence in offences(path):
            print(offence)
            count += 1
    print(f"{count} offences in {len(paths)} files")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
