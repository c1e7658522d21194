"""Runs as tasks of Ray: a cluster of two nodes on this machine, of which one is killed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import PIXELS

import dfw
from dfw import Sweep
from dfw.runs.drive import MEASURED
from dfw.runs.pretended import Pretended
from dfw.studies.axes import axis
from dfw.studies.plan import planned, write_plan
from dfw.studies.states import state
from dfw.studies.worker import Maker
from dfw.testing import LauncherTests

ray = pytest.importorskip("ray", reason="ray is not installed")
from dfw_launchers.ray import Ray  # noqa: E402

pytestmark = pytest.mark.slow


class TestRay(LauncherTests):
    component = Ray
    expected_failures = {  # noqa: RUF012
        "test_no_global_rng": "Ray draws from Python's random when it starts; no run is made in this process"
    }
    options = {"gpus": 0, "retries": 0}  # noqa: RUF012

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def cluster(cls) -> Iterator[None]:
        """One for all checks, since a new one takes seconds."""
        from ray.cluster_utils import Cluster

        one = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        cls.options = {"gpus": 0, "retries": 0, "address": one.address}
        yield
        one.shutdown()


def numbers(run: Path) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in dfw.open(run).metrics]


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A head without processors, and two nodes for one task each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield cluster
    cluster.shutdown()


def rows(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def until(holds: Any) -> None:
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_runs_of_a_node_that_dies_go_on_elsewhere_to_the_bits_they_have_alone(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(PIXELS), encoding="utf-8")
    runs = planned(["tiny.yaml"], [axis("seed=1..2"), axis("trainer.steps=1000"), axis("trainer.checkpoint_every=100")])
    folder = tmp_path / "s"
    write_plan(folder, runs)

    def kill() -> None:
        until(lambda: all(rows(folder / run.name) > 150 for run in runs))
        nodes.remove_node(nodes.workers[1], allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    sweep = Sweep(folder, [run.name for run in runs], Maker(folder), lambda: None, print)
    outcomes = list(Ray(Ray.Config(address=nodes.address)).outcomes(sweep))
    killer.join()
    assert sorted((one.run, one.status) for one in outcomes) == sorted((run.name, "finished") for run in runs)
    resumed = [len(dfw.open(folder / run.name).manifest.get("resumed", ())) for run in runs]
    assert sorted(resumed) == [0, 1]
    for run in runs:
        assert numbers(folder / run.name) == numbers(dfw.run("tiny.yaml", *run.overrides, listeners=[]).directory)


def test_a_signal_lets_runs_write_a_checkpoint_and_begins_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(PIXELS), encoding="utf-8")
    runs = planned(["tiny.yaml"], [axis("seed=1..20"), axis("trainer.steps=100000")])
    folder = tmp_path / "s"
    write_plan(folder, runs)

    def stopped() -> int | None:
        return int(signal.SIGTERM) if any(rows(folder / run.name) for run in runs) else None

    sweep = Sweep(folder, [run.name for run in runs], Maker(folder), stopped, print)
    outcomes = list(Ray(Ray.Config(gpus=0)).outcomes(sweep))
    assert {one.status for one in outcomes} == {"interrupted"}
    assert 0 < len(outcomes) < 20
    begun = {run.name: state(folder, run) for run in runs if state(folder, run) != "pending"}
    assert begun == {one.run: "interrupted" for one in outcomes}
    assert not list((folder / "ray").iterdir())


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, ["finished-1"], Pretended(tmp_path), lambda: None, print)
    with pytest.raises(dfw.ConfigError, match=r"ray.address=localhost:1: .*ray start --head"):
        list(Ray(Ray.Config(address="localhost:1")).outcomes(sweep))
