"""The benchmarks: the page comes from the numbers, the counting is right, and every section runs on a tiny budget."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as command
from benchmarks import (
    ablation,
    latents,
    measure,
    memory,
    networks,
    portrait,
    quality,
    relatives,
    report,
    speed,
    steps,
    transformers,
)
from benchmarks.measure import Budget
from diffnotes import (
    Denoising,
    Frame,
    Images,
    Schedule,
    TrainConfig,
    ddpm_sample,
    dpm_solver_sample,
    initial_noise,
    load_images,
)
from diffnotes.book.press import measured_latents
from diffnotes.book.press.measured import (
    RELATIVES,
    TITLES,
    relatives_table,
    steps_figure,
    transformer_alt,
    transformer_choices,
    transformer_figure,
    transformer_table,
)
from diffnotes.book.press.measured_latents import (
    gap_alt,
    gap_figure,
    gap_table,
    latents_table,
    prior_table,
    scale_table,
)
from diffnotes.process.choose import SOLVERS, sample_with
from diffnotes.training import metrics
from diffnotes.training.muon import muon_groups

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
NUMBERS = ROOT / "docs" / "benchmarks" / "results.json"
TRIAL = Path(__file__).with_name(
    "trial_benchmarks.json"
)  # of python -m benchmarks --trial: every section, of seconds each
TINY = Budget(
    names=("ours", "course", "ours_like_course"), batch=2, rounds=2, at_least=0.0, matmul=(64, 128),
    race=1, race_images=2, race_samples=8,
    marks=(0.5, 1), own=(1, 2), seeds=2, samples=8, steps=2, many=8, ablation_updates=1, bits_images=2,
    batches=(1, 4), channels=(8, 16), sides=(28, 56),
    sampling_steps=(1, 2),
)  # fmt: skip


# -- the page -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers() -> dict:
    """Of all sections, from a trial run."""
    return json.loads(TRIAL.read_text(encoding="utf-8"))


def test_the_page_is_what_the_numbers_make_of_it():
    published = json.loads(NUMBERS.read_text(encoding="utf-8"))
    assert report.render(published) == PAGE.read_text(encoding="utf-8")
    assert [name for name, section in published.items() if section["trial"]] == []


def test_a_trial_says_that_it_is_one(numbers: dict):
    assert "These are trial numbers" in report.render(numbers)


def test_the_page_names_what_is_not_measured(numbers: dict):
    assert "Not measured yet" not in report.render(numbers)
    others = {name: numbers[name] for name in numbers if name not in ("steps", "cost")}
    assert "Not measured yet: steps, cost." in report.render(others)


def test_another_number_makes_another_page(numbers: dict):
    changed = json.loads(json.dumps(numbers))
    changed["sampling"]["data"]["seconds"] = {"low": 11.1, "median": 12.3, "high": 13.4}
    assert "12.3 (11.1–13.4) seconds" in report.render(changed)


@pytest.mark.parametrize("section", ["throughput", "quality", "steps", "ablation", "cost", "sampling", "start", "gpu"])
def test_the_page_can_do_without_a_section(section: str, numbers: dict):
    others = {name: numbers[name] for name in numbers if name != section}
    assert report.render(others) != report.render(numbers)


def test_every_figure_is_there_and_says_what_it_shows():
    figures = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(figures) >= 1
    assert [path for alt, path in figures if len(alt.split()) < 8 or not (PAGE.parent / path).is_file()] == []


def test_the_figures_are_drawn_from_the_numbers(numbers: dict, tmp_path: Path):
    report.figures(numbers, tmp_path)
    names = {"quality.png", "samples.png", "throughput.png", "cost.png", "steps.png", "portrait.png"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_change_is_called_worse_or_better_only_where_it_is_further_than_the_same_run_lies_apart(numbers: dict):
    values = {"base": 10.0, "base_seed_1": 11.0, "base_seed_2": 10.4, "adamw": 13.0, "eps": 11.3, "channels_24": 8.0}
    data = json.loads(json.dumps(numbers["ablation"]["data"]))
    row = data["rows"]["base"]
    data["rows"] = {name: {**row, "frechet": {"value": value, "error": 0.2}} for name, value in values.items()}
    page = " ".join(report._ablation(data).split())
    assert "these are worse: AdamW in place of Muon (13.0); and these are better: 24 channels (8.0)." in page
    for row in data["rows"].values():
        row["frechet"]["error"] = 2.0  # now none of it can be told from chance
    assert "nothing is worse; and nothing is better" in " ".join(report._ablation(data).split())


def test_the_page_ranks_the_samplers_and_compares_the_spacings(numbers: dict):
    data = json.loads(json.dumps(numbers["steps"]["data"]))
    for place, curve in enumerate(data["curves"].values()):
        for spacing, value in (("uniform", 40.0 + place), ("quadratic", 60.0 + 1.5 * place)):
            for point in curve[spacing]:
                point["frechet"]["value"] = value
    data["curves"]["DDIM, η = 0"]["quadratic"][-1]["frechet"]["value"] = 40.0
    page = " ".join(report._steps(data).split())
    first = "DDIM, η = 0 (40.0), DDIM, η = 0.5 (41.0), η = 1: DDPM, variance β-tilde (42.0), DDPM, variance β (43.0)"
    assert first in page and "between 1.00 and 1.50" in page


def test_sections_are_measured_alone_and_put_beside_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(command.SECTIONS, "sampling", lambda budget: {"number": 1})
    path = tmp_path / "benchmarks" / "results.json"
    path.parent.mkdir()
    path.write_text('{"start": "kept"}', encoding="utf-8")
    results = command.measure_into(path, ["sampling"], TINY)
    assert results["start"] == "kept" and results["sampling"]["data"] == {"number": 1}
    assert results["sampling"]["machine"]["torch"] == torch.__version__
    assert results["sampling"]["settings"]["batch"] == 2


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        command.main(["speed"])
    assert (
        "sections must be of throughput, quality, steps, ablation, relatives, transformers, latents, portrait, cost, sampling, "
        "start, gpu, got speed" in capsys.readouterr().err
    )


# -- counting and timing --------------------------------------------------------------------------------------------------


class Convolution(nn.Module):
    """One convolution, called like a network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.layer(x_t)


class Attention(nn.Module):
    """Every pixel looks at every other."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        places = x_t.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(places, places, places)


def test_flops_of_a_convolution():
    assert networks.flops(Convolution()) == 2 * 3 * 3 * 4 * 28 * 28
    assert networks.flops(Convolution(), side=14) == 2 * 3 * 3 * 4 * 14 * 14
    # backward: as much again for the weights; the image wants no gradient
    assert networks.flops(Convolution(), backward=True) == 2 * networks.flops(Convolution())


def test_flops_of_fused_attention_are_those_of_its_two_products():
    assert networks.flops(Attention()) == 2 * (2 * (28 * 28) ** 2)


def test_the_peers_are_as_large_as_published():
    assert networks.parameters(networks.course()) == 1_707_009  # "1.7M" in the course
    assert networks.parameters(networks.large()) == 13_797_121


@pytest.mark.parametrize("peer, twin", networks.TWINS.items())
def test_our_unet_in_a_peers_layout_is_as_large_and_as_much_work(peer: str, twin: str):
    theirs, ours = networks.build(peer), networks.build(twin)
    assert networks.parameters(ours) == pytest.approx(networks.parameters(theirs), rel=0.08)
    assert networks.flops(ours) == pytest.approx(networks.flops(theirs), rel=0.02)


def test_a_peer_counts_its_times_from_0_and_is_unwrapped():
    class Answer:
        def __init__(self, sample: Tensor) -> None:
            self.sample = sample

    class Network(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Answer:
            return Answer(x + t[:, None, None, None])

    peer = networks.Peer(Network(), "eps")
    assert torch.equal(peer(torch.zeros(2, 1, 1, 1), torch.tensor([1, 1000])).flatten(), torch.tensor([0.0, 999.0]))
    assert peer.target == "eps"


def test_the_course_gives_the_label_as_four_more_channels():
    class Network(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x

    peer = networks.Peer(Network(), "eps", num_classes=10)
    x_t, t = torch.randn(2, 1, 3, 3), torch.tensor([1, 1000])
    told = peer(x_t, t, torch.tensor([7, 2]))
    assert told.shape == (2, 5, 3, 3) and torch.equal(told[:, :1], x_t)
    assert torch.equal(told[:, 1:, 1, 2], peer.label.weight[[7, 2]])
    assert torch.equal(peer(x_t, t), peer(x_t, t, torch.tensor([10, 10])))
    assert networks.course_labels().network.conv_in.in_channels == 5


def test_the_same_name_builds_the_same_network():
    first, second = networks.build("ours"), networks.build("ours")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"name must be one of ours, course, .*, got 'theirs'"):
        networks.build("theirs")


def test_what_is_compared_takes_turns():
    said: list[str] = []
    times = measure.interleaved({"a": lambda: said.append("a"), "b": lambda: said.append("b")}, rounds=3)
    assert said == ["a", "b"] + ["a", "b"] * 3 and [len(each) for each in times.values()] == [3, 3]


def test_a_short_call_is_repeated():
    said: list[str] = []
    measure.interleaved({"a": lambda: said.append("a")}, rounds=1, at_least=0.001)
    assert len(said) > 10


def test_median_and_quartiles():
    assert measure.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert measure.quotients([2.0, 9.0, 8.0], [1.0, 3.0, 2.0])["median"] == 3.0


# -- every section, tiny ----------------------------------------------------------------------------------------------------


def test_throughput(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "of_a_step", lambda name, batch: 1.0)
    data = speed.throughput(TINY)
    course, ours = data["networks"]["course"]["step"], data["networks"]["ours"]["step"]
    assert course["flops"] > 5 * ours["flops"] and ours["ours_is_faster"]["median"] == 1
    assert course["gflops"]["median"] == pytest.approx(
        course["images_per_second"]["median"] * course["flops"] / 1e9, rel=1e-6
    )
    assert course["twin_is_faster"]["median"] > 0 and data["peak"]["side"] in TINY.matmul


def test_the_memory_of_a_step_is_that_of_many_layers():
    model, number = networks.ours(), 64
    widest = number * model.settings["channels"] * 14 * 14 * 4 / 2**20  # MiB of one layer's output
    assert 5 * widest < memory.of_a_step("ours", number) < 1000


def test_cost():
    curves = speed.cost(TINY)["curves"]
    assert [curve["at"] for curve in curves.values()] == [[1, 4], [8, 16], [28, 56], [1, 2]]
    seconds = [point["median"] for point in curves["side"]["seconds"]]
    slope = torch.tensor(seconds).log().diff().item() / torch.tensor(2.0).log().item()
    assert curves["side"]["slope"] == pytest.approx(slope, abs=1e-4)


def test_sampling():
    assert speed.sampling(TINY, number=2)["seconds"]["median"] > 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_budget_has_the_one_place_where_the_sampler_is_chosen(
    solver: str, small_network: nn.Module, monkeypatch: pytest.MonkeyPatch, numbers: dict
):
    seen = set()

    def noted(*given: object, **how: object) -> Iterator[Frame]:
        seen.add((how["solver"], how["steps"], how["eta"]))
        return sample_with(*given, **how)

    monkeypatch.setattr(metrics, "sample_with", noted)
    monkeypatch.setattr(speed, "sample_with", noted)
    monkeypatch.setattr(speed, "load_pretrained", steps.load_pretrained)
    budget = replace(TINY, runs=("base",), solver=solver, eta=0.0, steps=3)
    ablated, drawn = ablation.measure(budget, *few_images()), speed.sampling(budget, number=2)
    assert seen == {(solver, 3, 0.0)}
    assert (ablated["solver"], drawn["solver"], drawn["steps"]) == (solver, solver, 3)
    data = {**numbers["quality"]["data"], "solver": solver, "steps": 3, "eta": 0.0}
    for page in (report._quality(data), report._ablation(ablated), report._sampling(drawn)):
        assert re.search(rf"\b3\s{re.escape(report.SOLVERS[solver])} steps", page)


def test_start(monkeypatch: pytest.MonkeyPatch):
    ran: list[str] = []
    monkeypatch.setattr(speed, "_python", ran.append)
    monkeypatch.setattr(speed, "_wheel", lambda: (1000, None))
    assert speed.start(TINY)["wheel_bytes"] == 1000
    assert ran == ["pass", "import torch", "import diffnotes"] * 3


def test_a_wheel_that_cannot_be_built_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(speed, "ROOT", tmp_path)
    size, problem = speed._wheel()
    assert size is None and "not installable" in problem


def test_without_cuda_the_gpu_section_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in speed.gpu(TINY, None)["skipped"]


def test_quality():
    # in a process of its own: the tests' type checks know the trainer with our network only
    code = f"""
import dataclasses, json
from benchmarks import quality
from benchmarks.measure import Budget
from diffnotes import Images, load_images
train, test = load_images("auto", "train"), load_images("auto", "test")
train, few = (Images(of.x[:n], of.y[:n], of.name, of.source) for of, n in ((train, 1500), (test, 300)))
recipe = dataclasses.replace(quality.course_recipe(), batch_size=2)
quality.course_recipe = lambda: recipe
budget = {TINY!r}
print(json.dumps(quality.measure(budget, train, few)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout.splitlines()[-1])
    names = {"ours", "ours_guided", "course", "course_our_recipe", "ours_no_labels", "ours_eps_linear"}
    assert data["curves"].keys() == names | {"ours_clusters", "ours_clusters_guided"}
    assert [point["updates"] for point in data["curves"]["ours"]] == [1, 2] == data["own"]
    assert len(data["curves"]["ours_guided"]) == 2
    first = data["curves"]["ours"][0]["frechet"]
    assert len(first["runs"]) == 2 and first["value"] == pytest.approx(sum(first["runs"]) / 2)
    assert first["error"] == pytest.approx(abs(first["runs"][0] - first["runs"][1]) / 2)
    ends = {name: points[-1]["in_our_updates"] for name, points in data["curves"].items()}
    assert ends["ours"] == 2 and ends["course"] >= 2  # it trains until the time of ours is over
    assert all(point["updates"] >= 1 for point in data["curves"]["course"])
    worst = min(points[-1]["frechet"]["value"] for points in data["curves"].values())
    assert data["perfect"]["frechet"]["value"] < worst


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """In the place of the network that comes with the package."""
    model = networks.UNet(channels=8, multipliers=(1,), blocks=1, patch=4, num_classes=10, target="v").eval()
    nn.init.normal_(model.last.weight, std=0.1)  # a fresh network answers 0 to everything
    monkeypatch.setattr(steps, "load_pretrained", lambda name: (model, Schedule.cosine(T=20)))
    return model


def few_images() -> tuple[Images, Images]:
    """Images to train on, and fewer to judge against."""
    train, test = load_images("auto", "train"), load_images("auto", "test")
    return tuple(Images(of.x[:n], of.y[:n], of.name, of.source) for of, n in ((train, 1500), (test, 100)))


def test_steps(small_network: nn.Module):
    data = steps.measure(TINY, few_images()[1])
    assert list(data["curves"]) == list(steps.SAMPLERS) and data["samples"] == 8
    for curve in data["curves"].values():
        assert {spacing: [p["steps"] for p in points] for spacing, points in curve.items()} == {
            "uniform": [1, 2], "quadratic": [1, 2]
        }  # fmt: skip
    assert list(data["karras"]) == list(steps.SOLVERS)
    assert all([p["steps"] for p in points] == [1, 2] for points in data["karras"].values())
    # one step goes to t = 0 and adds no noise: every sampler draws the same
    first = [curve["uniform"][0]["frechet"]["value"] for curve in data["curves"].values()]
    assert first == pytest.approx([first[0]] * 4, rel=1e-3)
    page = report._steps(data)
    assert "| SDE-DPM-Solver++(2M) | Karras |" in page and "at the times of Karras' grid" in page
    without = report._steps({key: value for key, value in data.items() if key != "karras"})
    assert "Karras" not in without and len(without) < len(page)
    assert "one step" not in report._steps(data) and "between" in report._steps(data)
    assert len(steps_figure(json.loads(json.dumps(data))).axes) == 2


def test_the_samplers_are_those_that_they_are_called(small_network: nn.Module):
    schedule = Schedule.cosine(T=20)
    drawn = {name: steps.sample(f, small_network, schedule, 2, 5, "uniform") for name, f in steps.SAMPLERS.items()}
    ddpm = steps.sample(partial(ddpm_sample, variance="beta_tilde"), small_network, schedule, 2, 5, "uniform")
    assert torch.allclose(drawn["η = 1: DDPM, variance β-tilde"], ddpm, atol=1e-4)
    others = [x for name, x in drawn.items() if not name.startswith("η = 1")]
    for name, f in steps.SOLVERS.items():
        drawn[name] = steps.sample(f, small_network, schedule, 2, 5, "karras")
        how = {"steps": 5, "eta": int(name.startswith("SDE")), "clip": True, "generator": 0}
        *_, last = dpm_solver_sample(small_network, schedule, initial_noise(0, 2), **how)
        assert torch.allclose(drawn[name], last.x_t, atol=1e-5)
        others.append(drawn[name])
    assert all(not torch.allclose(x, ddpm, atol=1e-2) for x in others)
    assert all(x.abs().max() <= 1 + 1e-5 for x in drawn.values())  # the last step gives the prediction, and that is cut


def test_no_two_images_share_their_noise(small_network: nn.Module, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steps, "CHUNK", 2)
    monkeypatch.setattr(steps, "initial_noise", lambda seed, batch: torch.zeros(batch, 1, 28, 28))
    drawn = steps.sample(steps.SAMPLERS["DDPM, variance β"], small_network, Schedule.cosine(T=20), 4, 5, "uniform")
    assert len({tuple(x.flatten()[:50].tolist()) for x in drawn}) == 4


def test_the_ablation_changes_one_thing_at_a_time():
    names = list(ablation.RUNS)
    assert names[:3] == ["base", "base_seed_1", "base_seed_2"] and ablation.RUNS["base"] == ablation.Run()
    assert set(report.CHOICES) == {*names, "raw_weights"}
    for name, run in ablation.RUNS.items():
        changed = {key for key, value in run.network.items() if networks.ours().settings[key] != value}
        changed |= {
            key for key, value in run.config.items() if {**asdict(TrainConfig()), **networks.CONFIG}[key] != value
        }
        usual = {**asdict(Denoising(Schedule.cosine(10))), **networks.LOSS}
        changed |= {key for key, value in run.loss.items() if usual[key] != value}
        changed |= {"schedule"} if run.schedule != "cosine" else set()
        changed |= set() if run.centred else {"centred"}
        several = {
            "base": 0,
            "base_seed_1": 0,
            "base_seed_2": 0,
            "eps_linear": 2,
            "algorithm_1": 3,
            "adamw": 2,
            "min_snr": 2,
        }
        assert len(changed) == several.get(name, 1), name  # AdamW comes with the learning rate that suits it


def test_the_run_as_it_is_is_that_of_chapter_6():
    chapter = (ROOT / "notebooks" / "06_training.ipynb").read_text(encoding="utf-8")
    assert "size = dict(channels=32, multipliers=(1, 2), blocks=1, patch=2)" in chapter
    assert 'UNet(**size, num_classes=10, target=\\"v\\", input_mean=mean)' in chapter
    assert "Denoising(schedule, min_snr=None, logit_normal=(0.3, 1.0))" in chapter
    assert "TrainConfig(seed=0, learning_rate=4e-3, warmup=50)" in chapter
    assert networks.LOSS == dict(min_snr=None, logit_normal=(0.3, 1.0))
    assert networks.CONFIG == dict(learning_rate=4e-3, warmup=50)
    assert networks.OURS == dict(channels=32, multipliers=(1, 2), blocks=1, patch=2, num_classes=10, target="v")
    trainer = ablation.make(ablation.RUNS["base"], load_images("auto", "test"))
    mean = trainer.schedule.alpha_bar.sqrt() * load_images("auto", "test").x.mean()
    assert torch.allclose(trainer.model.input_mean, mean.float())


def test_ablation():
    budget = replace(TINY, runs=("base", "base_seed_2", "eps_linear", "no_labels"))
    data = ablation.measure(budget, *few_images())
    assert list(data["rows"]) == ["base", "raw_weights", "base_seed_2", "eps_linear", "no_labels"]
    base, raw, without = (data["rows"][name] for name in ("base", "raw_weights", "no_labels"))
    assert base["updates"] == raw["updates"] >= 1 and without["parameters"] == base["parameters"] - 11 * 4 * 32
    assert base["images_per_second"] == pytest.approx(base["updates"] * TrainConfig().batch_size / base["seconds"])
    assert "unconditional, without labels" in report._ablation(data) and "24 channels" not in report._ablation(data)


def test_relatives():
    data = relatives.measure(TINY, *few_images())
    rows = data["rows"]
    assert set(rows) == set(RELATIVES) and data["bits_images"] == 2
    assert [rows[name]["calls"] for name in ("ddpm", "ddim", "2m", "realnvp", "vae")] == [50, 20, 8, 1, 1]
    assert all(row["updates"] == TINY.own[-1] for name, row in rows.items() if name not in ("realnvp", "vae"))
    kinds = {name: row["bits"] and row["bits"]["kind"] for name, row in rows.items()}
    chains = dict.fromkeys(("ddpm", "score_sde", "flow_matching"), "bound")
    assert kinds == {**chains, "realnvp": "dequantised", "ddim": None, "2m": None, "vae": None}
    assert all(row["bits"] is None or row["bits"]["value"] > 0.5 for row in rows.values())
    head, lines = relatives_table(data)
    assert [line[0] for line in lines] == [*RELATIVES.values(), TITLES["perfect"]]
    assert all(len(line) == len(head) for line in lines) and "side by side" in report._relatives(data)


def test_transformers(monkeypatch: pytest.MonkeyPatch):
    few = {name: make for name, make in transformers.RACERS.items() if "middle" in name or name == "unet large"}
    monkeypatch.setattr(transformers, "RACERS", few)
    data = transformers.measure(TINY, *few_images())
    assert set(data["rows"]) == set(few) and set(data["choices"]) == set(transformers.CHOICES)
    for name, row in data["rows"].items():
        assert row["updates"] >= 1 and len(row["error"]) == 10 and row["curve"][-1][0] <= row["seconds"], name
    for kind in ("unet", "adm", "dit"):  # the other sizes stand for themselves in the table
        data["rows"] |= {f"{kind} {size}": data["rows"][f"{kind} middle"] for size in ("small", "large")}
    head, lines = transformer_table(data)
    assert len(lines) == 10 and all(len(line) == len(head) for line in lines)
    head, lines = transformer_choices(data)
    assert len(lines) == 5 and all(len(line) == len(head) for line in lines)
    assert len(transformer_figure(data).axes) == 3 and "Transformers and U-Nets" in report._transformers(data)
    assert transformer_alt(data).count(", loss ") == 9


def test_latents(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latents, "LEVELS", (0, 500))
    monkeypatch.setattr(latents, "SCALES", (0.18, 1.0))
    data = json.loads(json.dumps(latents.measure(TINY, *few_images())))
    assert set(data["rows"]) == {*measured_latents.RACE, "mean_codes"} and data["seconds"] > 0
    assert data["autoencoder"]["scale_of_the_means"] < data["autoencoder"]["scale_of_the_draws"]
    assert data["cost"]["latent"]["mflop"] < data["cost"]["pixel"]["mflop"]
    assert [point["s"] for point in data["cascade"]["rows"]["with"]] == [0, 500]
    assert data["prior"]["rows"]["mean"]["within"] < 1e-9 < data["prior"]["rows"]["test"]["within"]
    assert data["prior"]["rows"]["text"]["within"] < 1e-9
    for table in (latents_table, scale_table, gap_table, prior_table):
        head, lines = table(data)
        assert lines and all(len(line) == len(head) for line in lines)
    assert len(gap_figure(data).axes) == 2 and "s = 500:" in gap_alt(data)
    assert "Latents, cascades, and a prior over embeddings" in report._latents(data)


def test_digits_of_both_stages_depend_on_the_seed_and_have_labels_in_turn():
    train = few_images()[0]
    for make in (latents.train_latent, latents.train_cascade):
        made = make(train, 0.2)
        assert made.seconds > 0 and made.updates >= 2 and made.draw(3, 0).shape == (3, 1, 28, 28)
        torch.testing.assert_close(made.draw(3, 0), made.draw(4, 0)[:3], rtol=1e-3, atol=1e-3)
        assert made.calls in (21, 40)


def test_images_in_turn_have_the_labels_in_turn():
    images = few_images()[1]
    x = latents.in_turn(images, 12)
    taken = [images.y[(images.x == one).flatten(1).all(1)][0].item() for one in x]
    assert taken[:10] == list(range(10)) and taken[10:] == [0, 1]


def test_a_changed_transformer_differs_in_that_alone():
    mean = Schedule.cosine(T=1000).alpha_bar.sqrt()
    nets = {}
    for name, (make, _) in transformers.CHOICES.items():
        torch.manual_seed(0)
        nets[name] = make(mean)
    assert len(muon_groups(nets["Muon by shape"])) == 1 and len(muon_groups(nets["as it is"])) == 2
    assert nets["gates open"].tables[:, [2, 5]].eq(1).all() and not nets["gates open"].tables[:, [0, 1, 3, 4]].any()
    for one, other in zip(nets["as it is"].parameters(), nets["Muon by shape"].parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_operations_are_three_times_the_forward_ones():
    """But for the first layers, of patches and of the time, whose inputs need no gradient."""
    net = transformers.dit(32, 3, 2, convolution=False)(Schedule.cosine(T=1000).alpha_bar.sqrt())
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 28, 28), 1).sum().backward()
    assert transformers.training_flops(net) == counter.get_total_flops() + 2 * 49 * 16 * 32 + 2 * 32 * 32
    near = transformers.dit(32, 3, 2)(Schedule.cosine(T=1000).alpha_bar.sqrt())
    assert transformers.training_flops(near) - transformers.training_flops(net) == 3 * 3 * 49 * 2 * 9 * 4 * 32


def test_bits_of_a_model_that_is_known():
    """A density that is uniform over the 256 bins pays 8 bits, whatever the images are."""

    class Uniform:
        def log_prob(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x),), -784 * math.log(256 * 2 / 255), dtype=torch.float64)

    bits = relatives.exact(Uniform(), few_images()[1])
    assert bits["value"] == pytest.approx(8) and bits["kind"] == "dequantised"


def test_the_sigmoid_schedule():
    schedule = quality.sigmoid_schedule()
    assert schedule.alpha_bar[500].item() == pytest.approx(0.5, abs=1e-9)  # odd about the middle
    assert (schedule.alpha_bar[250] + schedule.alpha_bar[750]).item() == pytest.approx(1.0, abs=1e-9)
    s = torch.sigmoid(torch.tensor([3.0, 1.5, -3.0], dtype=torch.float64))  # minus the argument at t = 0, T / 4, T
    assert schedule.alpha_bar[250].item() == pytest.approx(((s[1] - s[2]) / (s[0] - s[2])).item(), abs=1e-9)
    assert schedule.beta[-1].item() == pytest.approx(0.999)


# -- the family portrait --------------------------------------------------------------------------------------------------


def test_the_portrait_keeps_what_a_model_drew_and_judges_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train, test = few_images()
    budget = replace(TINY, portrait={"1": 1}, portrait_samples=40)
    monkeypatch.setattr(portrait, "FAMILY", {"vae": portrait.FAMILY["vae"], "denoisers": portrait.FAMILY["denoisers"]})
    data = portrait.measure(budget, train, test, tmp_path)
    assert list(data["rows"]["1"]) == ["ddpm", "ddim", "dpm_solver", "guided", "vae"]
    row = data["rows"]["1"]["ddpm"]
    assert row["calls"] == 50 and row["bits"]["kind"] == "bound" and row["number"] == 40 and row["updates"] >= 1
    assert data["rows"]["1"]["vae"]["bits"] is None  # its data are black and white
    assert data["sample_sets"]["one_a_class"]["copies"]["value"] == 1
    monkeypatch.setattr(portrait, "FAMILY", dict.fromkeys(portrait.FAMILY, None))  # nothing is trained a second time
    assert portrait.measure(budget, train, test, tmp_path) == data


def test_every_row_of_the_portrait_is_somebodys():
    source = (ROOT / "benchmarks" / "family.py").read_text(encoding="utf-8")
    assert [name for name in portrait.ROWS if f'"{name}"' not in source] == []
    assert set(portrait.FAMILY) <= set(vars(portrait.family))


def test_images_of_the_portrait_have_noise_and_labels_of_their_own():
    family = portrait.family
    assert torch.equal(family.noise(slice(100, 120)), family.noise(slice(0, 120))[100:])
    assert family.labels(slice(98, 102)).tolist() == [8, 9, 0, 1]


def test_a_copy_is_nearer_to_a_training_image_than_test_images_are():
    train = torch.linspace(-1, 1, 50)[:, None, None, None].expand(-1, 1, 28, 28)
    threshold = torch.tensor(0.1)
    moved = train[:10] + torch.tensor([0.0, 0.003, 0.005, 0.02] * 3)[:10, None, None, None]  # 28 times that far
    share = portrait.copies(moved, train, threshold)["copies"]["value"]
    assert share == pytest.approx(0.6)
    assert portrait.distances(moved[3:4], train).item() == pytest.approx(28 * min(0.02, 2 / 49 - 0.02), abs=1e-3)


def test_sample_sets_are_what_their_names_say():
    train, test = few_images()
    perfect, _ = metrics.held_out(test.x, len(test) // 4)
    sample_sets = portrait.sample_sets(perfect, train, test, 30)
    assert (
        torch.equal(sample_sets["real"], perfect[:30])
        and len(sample_sets["one_a_class"].flatten(1).unique(dim=0)) == 10
    )
    assert sample_sets["blurred"].shape == sample_sets["real"].shape
    blurred = sample_sets["blurred"][0, 0, 10, 10]
    assert blurred.item() == pytest.approx(perfect[0, 0, 9:12, 9:12].mean().item(), abs=1e-6)
    labels = {tuple(x.flatten().tolist()): int(y) for x, y in zip(test.x, test.y, strict=True)}
    assert max(labels[tuple(x.flatten().tolist())] for x in sample_sets["only_0_to_4"]) <= 4
    assert len(sample_sets["fifty_copies"].flatten(1).unique(dim=0)) <= 50
