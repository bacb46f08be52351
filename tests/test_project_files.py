"""The files at the top agree with each other: dependencies, commands, chapters, licences."""

import os
import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from diffnotes.book.proof.chapters import label

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LISTS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
REQUIREMENTS = [Requirement(line) for listed in LISTS.values() for line in listed]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """The versions in constraints.txt."""
    lines = [line for line in text("constraints.txt").splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load(text("environment.yml"))


# -- dependencies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement, pins: dict[str, str]):
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_every_pin_can_be_installed_with_the_oldest_python(pins: dict[str, str]):
    """Debian's Python is 3.11.2, and a package may ask for 3.11.5: then pip says that versions conflict."""
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    here = {canonicalize_name(one.name): one for one in distributions() if canonicalize_name(one.name) in pins}
    asked = {name: one.metadata.get("Requires-Python") or "" for name, one in here.items()}
    assert len(asked) > 100 and {name: want for name, want in asked.items() if oldest not in SpecifierSet(want)} == {}


def test_no_dependency_is_listed_twice():
    names = [canonicalize_name(requirement.name) for requirement in REQUIREMENTS]
    assert sorted(set(names)) == sorted(names)


def test_conda_gets_its_name_and_channel(environment: dict):
    assert environment["name"] == "diffnotes" and environment["channels"] == ["conda-forge"]


def test_conda_itself_installs_python_and_pip_only(environment: dict):
    names = [re.split(r"[<>=! ]", item)[0] for item in environment["dependencies"] if isinstance(item, str)]
    assert names == ["python", "pip"]


def test_conda_asks_for_the_python_of_the_project(environment: dict):
    python = Requirement(environment["dependencies"][0]).specifier
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert python.contains(lowest) and not python.contains("3.10")


def test_conda_leaves_the_rest_to_the_package_and_the_constraints(environment: dict):
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    installed = [line for line in pip if not line.startswith(("--extra-index-url ", "--index-url "))]
    assert installed == ["-c constraints.txt", "-e ."]


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["lab", "test", "lint", "book"])
def test_the_makefile_has_the_target(target: str):
    assert re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)


def test_ci_runs_the_command_of_the_readme_on_the_small_budget():
    script = text(".ci/run")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "DIFFNOTES_BUDGET=ci" in script and re.search(r"^(exec )?make test\b", script, re.MULTILINE)


def test_the_workflow_runs_the_same_script():
    workflows = list((ROOT / ".github" / "workflows").glob("*.y*ml"))
    jobs = [job for path in workflows for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()]
    runs = [step.get("run", "") for job in jobs for step in job["steps"]]
    assert any(".ci/run" in run or "make test" in run for run in runs)


def test_what_npm_could_not_fetch_it_is_asked_for_again(tmp_path: Path):
    """By a stand-in for npm that counts its calls and fetches only at the second one."""
    npm, lock = tmp_path / "bin" / "npm", tmp_path / "docs" / "live" / "package-lock.json"
    fetched = lock.parent / "node_modules" / ".package-lock.json"
    for path, words in ((tmp_path / "Makefile", text("Makefile")), (lock, "{}"), (npm, "#!/bin/sh\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words, encoding="utf-8")
    npm.write_text(
        f"#!/bin/sh\necho $1 >> calls\ntest $(wc -l < calls) = 2 && mkdir {fetched.parent} && touch {fetched}\n"
    )
    npm.chmod(0o755)
    environment = os.environ | {"PATH": f"{npm.parent}:{os.environ['PATH']}"}
    said = [
        subprocess.run(
            ["make", str(fetched.relative_to(tmp_path))],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(3)
    ]
    assert ["could not fetch" in words for words in said] == [True, False, False]
    assert (tmp_path / "calls").read_text() == "ci\nci\n"


# -- README and licences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["make lab", "make test"])
def test_the_readme_has_the_command(command: str):
    assert re.search(rf"^{command}\b", text("README.md"), re.MULTILINE)


def test_the_table_of_chapters_lists_every_notebook():
    rows = re.findall(r"^\| *(\d+|[A-Z]) *\| *\[[^]]+\]\(notebooks/([\w-]+\.ipynb)\)", text("README.md"), re.MULTILINE)
    assert rows == [(label(int(path.name.split("_")[0])), path.name) for path in NOTEBOOKS]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_resolve(name: str):
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text(name)) if "://" not in link]
    assert [link for link in links if link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("licence", ["MIT License", "CC BY 4.0"])
def test_both_licences_are_named(licence: str):
    assert licence in text("LICENSE")


def test_the_licences_are_those_of_the_package():
    assert PROJECT["license"] == "MIT AND CC-BY-4.0"


# -- what is not in the repository ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():  # unpacked from an archive: all that is there, but what the tools made
        return [
            p for p in ROOT.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.relative_to(ROOT).parts)
        ]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_mnist_is_not_in_the_repository(tracked: list[Path]):
    assert [path.name for path in tracked if re.search(r"(idx[13]-ubyte|mnist.*\.(npz|pkl|gz|zip))", path.name)] == []


def test_no_file_has_the_head_of_mnist(tracked: list[Path]):
    heads = (b"\x00\x00\x08\x03", b"\x00\x00\x08\x01")  # of its images and of its labels
    assert [path.name for path in tracked if path.read_bytes()[:4] in heads] == []


def test_nothing_that_git_ignores_is_in_the_repository(tracked: list[Path]):
    forbidden = {".venv", "__pycache__", ".ipynb_checkpoints", "runs", "node_modules", ".artifacts"}
    assert [path for path in tracked if forbidden & set(path.relative_to(ROOT).parts)] == []
