"""What `benchmarks/peers/speed.py` compares. Our half does the work that it says. Theirs needs checkouts, and is not run here."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

import dfw

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "peers" / "speed.py"


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers_speed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_our_samples_have_gradients_through_density_colour_and_normals(speed: ModuleType):
    lit = {"shading": {"mode": "lambertian", "start": 0, "probability": 1}}
    with dfw.trainer(
        "gaussian-2d", geometry={"type": "nerf"}, renderer={"type": "volume"} | lit, cameras={"width": 16}
    ) as trainer:
        for work in (speed.our_samples(trainer), speed.our_picture(trainer, 8, 2)):
            work()
            found = [p.grad for p in trainer.geometry.parameters() if p.requires_grad]
            assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in found)
            assert any(float(gradient.abs().max()) > 0 for gradient in found)


def test_a_ratio_is_that_of_the_processor_time_for_each_part(speed: ModuleType):
    def busy(seconds: float):
        def work() -> None:
            end = time.process_time() + seconds
            while time.process_time() < end:
                pass

        return work

    taken = speed.alternate(busy(0.03), busy(0.01), 3)
    assert [len(times) for times in taken] == [3, 3]  # the first turn is not counted
    cells = [cell.strip() for cell in speed.row("x", *taken, (10, 40), "ms").split("|")]
    assert float(cells[2].removesuffix(" ms")) == pytest.approx(3, rel=0.5)
    assert float(cells[3].removesuffix(" ms")) == pytest.approx(0.25, rel=0.5)
    assert float(cells[4].split("**")[1]) == pytest.approx(12, rel=0.6)


def test_empty_packages_are_gone_after_the_import(speed: ModuleType, tmp_path: Path):
    (tmp_path / "theirs.py").write_text("import nvdiffrast.torch as dr\nfrom jaxtyping import Float\nshape = Float[int, 'N 3']\n")
    with speed.importing(tmp_path):
        import theirs  # type: ignore[import-not-found]
    assert theirs.dr.RasterizeCudaContext() is not None
    assert not any(name.split(".", maxsplit=1)[0] in ("nvdiffrast", "jaxtyping") for name in sys.modules)
    assert str(tmp_path) not in sys.path
    del sys.modules["theirs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threestudio", "."], "has no threestudio/models/networks.py"),
        ([], "give --stable-dreamfusion FOLDER"),
        (["--threestudio", ".", "--sides", "x"], "has no threestudio"),
    ],
)
def test_a_wrong_folder_is_refused(
    speed: ModuleType,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        speed.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
