"""`dfw evaluate`: runs are shown and scored once, records lie beside them, and what cannot be judged is left alone."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from command_line import run_dfw
from PIL import Image
from small_runs import PIXELS, SCENE

import dfw
from dfw import ComponentConfig, Score, Scorer, Shown
from dfw.evaluation.evaluate import Asked, Outcome, choose, evaluate
from dfw.evaluation.pictures import behind, shown
from dfw.evaluation.protocols import PROTOCOLS
from dfw.evaluation.records import read_result
from dfw.plugins.registry import registry
from dfw.runs.lock import RunLock

SMALL = SCENE | {"export": {"formats": [], "turntable_frames": 0}, "trainer": SCENE["trainer"] | {"steps": 2}}
WIDTH = 16


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seeds of one prompt, and another prompt."""
    folder = tmp_path_factory.mktemp("made")

    def run(**changes: Any) -> Path:
        return dfw.run(SMALL | {"output": str(folder)} | changes, listeners=[]).directory

    return {"red": run(seed=3), "again": run(seed=4), "blue": run(prompt="a blue square", seed=3)}


@pytest.fixture
def runs(made: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies, which a test may change."""
    for name, path in made.items():
        shutil.copytree(path, tmp_path / "runs" / name)
    return {name: tmp_path / "runs" / name for name in made}


class Brightness(Scorer):
    """The views' mean, and a list of what it was shown."""

    class Config(ComponentConfig):
        """A factor."""

        gain: float = 1.0
        """What the mean is multiplied by."""

    seen: ClassVar[list[list[tuple[str, int, tuple[str, ...]]]]] = []

    def __init__(self, config: Any) -> None:
        self.config = config

    def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
        self.seen.append([(run.prompt, run.seed, run.prompts) for run in runs])
        views = [run.colour.float().mean((1, 2, 3)) / 255 * self.config.gain for run in runs]
        return [Score(per_view=tuple(one.tolist())) for one in views]


class Spread(Brightness):
    """The same of a group."""

    together: ClassVar[bool] = True


class Chances(Brightness):
    """The same with the prompts of the others."""

    ranks: ClassVar[bool] = True


@pytest.fixture
def asked() -> list[Asked]:
    """Three scorers of this file."""
    for name, cls in {"brightness": Brightness, "spread": Spread, "chances": Chances}.items():
        dfw.register("scorer", name, cls)
    Brightness.seen.clear()
    return choose(registry(), ["brightness"])


def judged(paths: Sequence[Path], asked: Sequence[Asked], protocol: str = "views16", **options: Any) -> dict[str, Outcome]:
    found = evaluate(list(paths), PROTOCOLS[protocol], asked, options.pop("width", WIDTH), **options)
    return {outcome.path.name: outcome for outcome in found}


def test_a_run_is_scored_once_and_its_record_lies_beside_it(runs: dict[str, Path], asked: list[Asked]) -> None:
    found = judged(list(runs.values()), asked)
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(runs, "judged")
    record = read_result(runs["red"], "views16")
    assert record is not None
    assert record == json.loads(json.dumps(found["red"].result)) | {"format": 1}
    assert [record["run"][key] for key in ("prompt", "seed", "step")] == ["a red square", 3, 2]
    assert record["run"]["name"] == dfw.open(runs["red"]).config.name
    assert (record["views"], record["size"]) == (16, [WIDTH, WIDTH])
    score = record["scores"]["local/brightness"]
    assert len(score["per_view"]) == 16
    assert score["value"] == pytest.approx(sum(score["per_view"]) / 16)
    assert record["cost"]["seconds"] == dfw.open(runs["red"])._run.read_json("status.json")["seconds"]
    pictures = sorted((runs["red"] / "evaluation" / "views16" / "rgb").iterdir())
    assert [path.name for path in pictures] == [f"{view:03d}.png" for view in range(16)]
    means = [float(torch.tensor(list(Image.open(path).tobytes()), dtype=torch.float32).mean() / 255) for path in pictures]
    assert means == pytest.approx(score["per_view"], abs=1e-4)
    assert dfw.open(runs["red"]).status == "finished"

    calls = len(Brightness.seen)
    again = judged(list(runs.values()), asked)
    assert {one.state for one in again.values()} == {"kept"}
    assert len(Brightness.seen) == calls
    assert again["red"].result == record
    assert {one.state for one in judged(list(runs.values()), asked, again=True).values()} == {"judged"}


def test_what_changes_a_score_makes_it_anew_and_nothing_else(runs: dict[str, Path], asked: list[Asked]) -> None:
    red = [runs["red"]]
    first = judged(red, asked)["red"].result
    stronger = choose(registry(), ["brightness"], ["brightness.gain=2"])
    second = judged(red, stronger)["red"]
    assert second.state == "judged"
    assert first is not None
    assert second.result is not None
    assert second.result["scores"]["local/brightness"]["value"] == pytest.approx(2 * first["scores"]["local/brightness"]["value"])
    assert judged(red, stronger)["red"].state == "kept"
    wider = judged(red, stronger, width=24)["red"]
    assert (wider.state, wider.result and wider.result["size"]) == ("judged", [24, 24])
    more = choose(registry(), ["silhouette", "brightness"], ["brightness.gain=2"])
    calls = len(Brightness.seen)
    result = judged(red, more, width=24)["red"].result
    assert result is not None
    assert set(result["scores"]) == {"silhouette", "local/brightness"}
    assert len(Brightness.seen) == calls  # only what was lacking


def test_a_run_that_went_on_is_scored_again(runs: dict[str, Path], asked: list[Asked]) -> None:
    judged([runs["red"]], asked)
    dfw.open(runs["red"]).resume("trainer.steps=3", listeners=[])
    found = judged([runs["red"]], asked)["red"]
    assert found.state == "judged"
    assert found.result is not None
    assert found.result["run"]["step"] == 3


def test_seeds_are_given_together_and_prompts_to_those_that_rank(runs: dict[str, Path], asked: list[Asked]) -> None:
    order = [runs["blue"], runs["red"], runs["again"]]
    judged(order, choose(registry(), ["spread"]))
    both = ("a blue square", "a red square")
    assert Brightness.seen == [[("a blue square", 3, both)], [("a red square", 3, both), ("a red square", 4, both)]]
    assert {one.state for one in judged(order, choose(registry(), ["spread"])).values()} == {"kept"}
    fewer = judged(order[:2], choose(registry(), ["spread"]))
    assert {name: one.state for name, one in fewer.items()} == {"blue": "kept", "red": "judged"}  # its group is another
    judged(order, choose(registry(), ["chances"]))
    alone = judged(order[1:], choose(registry(), ["chances", "brightness"]))
    assert {one.state for one in alone.values()} == {"judged"}
    assert Brightness.seen[-2][0][2] == ("a red square",)


def test_repetitions_of_a_run_are_each_said(runs: dict[str, Path], asked: list[Asked]) -> None:
    """They have one configuration, and so one identity."""
    shutil.copytree(runs["red"], runs["red"].with_name("twin"))
    both = [runs["red"], runs["red"].with_name("twin")]
    for state in ("judged", "kept"):
        found = judged(both, choose(registry(), ["spread"]))
        assert {name: one.state for name, one in found.items()} == {"red": state, "twin": state}


def test_values_of_an_option_are_not_seeds_of_one_method(
    runs: dict[str, Path], asked: list[Asked], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dfw.run(SMALL | {"seed": 3}, "optimizer.lr=0.02", output=str(tmp_path / "other"), listeners=[]).directory
    paths = [runs["red"], runs["again"], other]
    found = judged(paths, choose(registry(), ["spread"]))
    names = [f"{dfw.open(other).config.name} lr={lr}" for lr in ("0.01", "0.02")]
    assert [one.method for one in found.values()] == [names[0], names[0], names[1]]
    assert sorted(len(group) for group in Brightness.seen) == [1, 2]
    _, said, _ = run_dfw("evaluate", *map(str, paths), "--width", str(WIDTH), "--scorers", "silhouette", capsys=capsys)
    assert all(name in said for name in names)


def test_what_is_not_finished_is_listed_and_left_alone(runs: dict[str, Path], asked: list[Asked], tmp_path: Path) -> None:
    flat = dfw.run(PIXELS | {"output": str(tmp_path / "flat")}, listeners=[]).directory
    with pytest.raises(dfw.DivergedError):
        dfw.run(PIXELS | {"output": str(tmp_path / "bad"), "seed": 1, "losses": {"sds": {"weight": 1e38}}}, listeners=[])
    (bad,) = (tmp_path / "bad").glob("*/*")
    (runs["again"] / "checkpoints").rename(runs["again"] / "gone")
    lock = RunLock(runs["blue"])
    lock.take()
    try:
        found = judged([*runs.values(), flat, bad], asked)
    finally:
        lock.release()
    states = {name: one.state for name, one in found.items()}
    assert states == {"red": "judged", "again": "failed", "blue": "running", flat.name: "failed", bad.name: "diverged"}
    assert "no views to judge" in found[flat.name].note
    assert found[bad.name].note
    for path in (runs["blue"], runs["again"], flat, bad):
        assert not (path / "evaluation").exists()


def test_a_relative_path_names_one_run(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is locked once, and not a second time under its whole name."""
    monkeypatch.chdir(tmp_path)
    dfw.register("scorer", "brightness", Brightness)
    asked = choose(registry(), ["brightness"])
    (found,) = evaluate([Path("runs/red")], PROTOCOLS["views16"], asked, WIDTH)
    assert (found.state, found.note) == ("judged", "")


def test_a_run_that_is_taken_meanwhile_is_not_written_to(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody goes on with it while it is being scored."""
    lock = RunLock(runs["red"])

    class Slow(Brightness):
        def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
            lock.take()
            return super().score(runs)

    dfw.register("scorer", "slow", Slow)
    try:
        (found,) = evaluate([runs["red"]], PROTOCOLS["views16"], choose(registry(), ["slow"]), WIDTH)
    finally:
        lock.release()
    assert found.state == "failed"
    assert "is being continued by" in found.note
    assert not (runs["red"] / "evaluation").exists()


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ([], "one Score for each run, and gave 0 for 1"),
        ([Score(float("nan"))], "finite numbers"),
        ([Score()], "says in details why"),
        ([Score(per_view=(1.0,))], "1 numbers for 16 views"),
        (3, "gave a int"),
    ],
)
def test_a_scorer_that_breaks_its_contract_is_named(runs: dict[str, Path], score: Any, said: str) -> None:
    class Wrong(Brightness):
        def score(self, runs: Sequence[Shown]) -> Sequence[Score]:
            return score  # type: ignore[no-any-return]

    dfw.register("scorer", "wrong", Wrong)
    with pytest.raises(dfw.DfwError, match=rf"wrong \(local/wrong, .*breaks its contract: .*{said}"):
        judged([runs["red"]], choose(registry(), ["wrong"]))


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_a_protocol_puts_its_colour_behind_the_scene(made: dict[str, Path]) -> None:
    """Over black the picture is that over white, less the share of white that is seen."""
    scene = dfw.open(made["red"]).scene
    cameras = PROTOCOLS["views16"].cameras(scene.look, WIDTH)
    white = scene.render(cameras)
    with behind(scene.renderer, (0.0, 0.0, 0.0)):
        black = scene.render(cameras)
    seen = white.render.opacity[..., None]
    assert seen.min() < 0.9
    assert black.colours == pytest.approx(white.colours - (1 - seen), abs=1e-4)
    assert scene.render(cameras).colours == pytest.approx(white.colours, abs=0)  # and the run's own comes back


def test_normals_are_kept_as_the_benchmark_shows_them(runs: dict[str, Path]) -> None:
    judged([runs["red"]], [], "gpteval3d")
    folder = runs["red"] / "evaluation" / "gpteval3d"
    names = {path.name for path in folder.glob("*.png")}
    assert names == {f"{of}_{view}.png" for of in ("rgb", "normal") for view in range(120)}
    scene = dfw.open(runs["red"]).scene
    views = shown(scene, PROTOCOLS["gpteval3d"], WIDTH)
    assert views.normal is not None
    render = scene.render(PROTOCOLS["gpteval3d"].cameras(scene.look, WIDTH).select(slice(7, 8))).render
    assert render.normal is not None
    unit = render.normal / render.normal.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    expected = ((unit + 1) / 2 * render.opacity[..., None] * 255).round()
    stored = torch.tensor(list(Image.open(folder / "normal_7.png").tobytes())).view(WIDTH, WIDTH, 3)
    assert (stored - expected[0]).abs().max() <= 1
    assert (views.normal[7] - stored).abs().max() == 0


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_a_summary(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, out = runs["red"].parent, tmp_path / "out" / "table.csv"
    arguments = ("evaluate", str(folder), "--width", str(WIDTH), "--scorers", "silhouette,judge")
    code, said, _ = run_dfw(*arguments, "--out", str(out), capsys=capsys)
    assert code == 0
    assert said.count("] judged") == 3
    assert "no judge: the prompt is not of the world that the judge knows" in said
    rows = list(csv.DictReader(out.open()))
    assert [(row["scorer"], row["prompts"], row["runs"]) for row in rows if "cost" not in row["scorer"]] == [
        ("silhouette", "2", "3")
    ]
    code, said, _ = run_dfw(*arguments, "--out", str(tmp_path / "all.json"), capsys=capsys)
    assert (code, said.count("] judged before")) == (0, 3)
    told = json.loads((tmp_path / "all.json").read_text())
    assert {one["state"] for one in told["runs"]} == {"kept"}
    assert told["summary"][0]["values"].keys() == {"a red square", "a blue square"}
    code, said, _ = run_dfw(*arguments, "--out", str(out), capsys=capsys)
    assert str(out.with_name("table-2.csv")) in said  # what exists is kept


def test_mistakes_are_one_sentence(runs: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    red = str(runs["red"])
    mistakes = {
        ("--protocol", "views17"): "there are views16, t3bench, gpteval3d",
        ("--scorers", "silouette"): "Did you mean 'silhouette'?",
        ("--set", "judge.prompts=none.txt", "--scorers", "silhouette"): "'judge' is not among the scorers silhouette",
        ("--set", "silhouette.side=3"): "silhouette.side",
        ("--out", "table.txt"): "written as .json or .csv",
    }
    for arguments, sentence in mistakes.items():
        code, _, said = run_dfw("evaluate", red, *arguments, capsys=capsys)
        assert code in (2, 3)
        assert sentence in said
        assert "Traceback" not in said
    code, _, said = run_dfw("evaluate", str(tmp_path / "nothing"), capsys=capsys)
    assert code == 2
    assert "holds no run" in said
    code, _, said = run_dfw("evaluate", red, "--scorers", "clip-score", "--set", f"clip-score.model={tmp_path}", capsys=capsys)
    assert code == 3
    assert "does not load as a CLIP model" in said
    assert not (runs["red"] / "evaluation").exists()
