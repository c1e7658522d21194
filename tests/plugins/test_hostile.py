"""No package, however broken, hurts a run that does not use it; one that is used gets one sentence that names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hostile_packages import BROKEN, HONEST, LIES, write_broken, write_liars
from hostile_site import dfw, one_error, only_run

PLACE = {"geometry": "geometry", "renderer": "renderer", "guidance": "guidance", "loss": "losses.tested"}


def test_a_run_among_broken_packages_is_as_if_they_were_not_there(site: Path, capsys: pytest.CaptureFixture[str]):
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert (code, err) == (0, "")
    write_broken(site)
    write_liars(site)
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    told = [line.split("WARNING: ")[1].split(":")[0] for line in err.splitlines()]
    assert sorted(told) == ["acme-exits 0.1", "acme-missing 0.1", "acme-raises 0.1"]  # only their listeners were asked for
    assert all(line.count("listener '") == 1 and line.count(" 0.1") == 1 for line in err.splitlines())
    alone, among = sorted(Path("runs/tiny").iterdir())
    for name in ("geometry", "optimizer"):
        file = f"checkpoints/step-000004/{name}.safetensors"
        assert (alone / file).read_bytes() == (among / file).read_bytes()
    assert (alone / "resolved.yaml").read_text() == (among / "resolved.yaml").read_text()
    manifests = [json.loads((run / "manifest.json").read_text()) for run in (alone, among)]
    first, second = ({key: value for key, value in one.items() if key not in ("date", "digest")} for one in manifests)
    assert first == second


def test_listing_works_with_every_plugin_broken_and_names_them_all(site: Path, capsys: pytest.CaptureFixture[str]):
    write_broken(site)
    write_liars(site)
    code, out, err = dfw("plugins", "list", capsys=capsys)
    assert (code, err) == (0, "")
    for distribution in [*BROKEN, "acme-squatter", "acme-twin-1", "acme-twin-2", "acme-liars"]:
        assert f"{distribution}/" in out
    assert "dreamfw/nerf" in out


@pytest.mark.parametrize("distribution", BROKEN)
def test_a_broken_component_that_is_used_is_one_sentence_with_its_version(
    site: Path, distribution: str, capsys: pytest.CaptureFixture[str]
):
    write_broken(site)
    code, _, err = dfw("run", "tiny.yaml", f"losses.tested.type={distribution}/{distribution}", capsys=capsys)
    assert code == 3
    text = one_error(err)
    assert f"{distribution} 0.1" in text
    assert "losses.tested" in text
    assert BROKEN[distribution][1] in text
    assert not Path("runs").exists()


def test_who_claims_a_built_in_name_is_told_apart_by_qualified_names(site: Path, capsys: pytest.CaptureFixture[str]):
    write_broken(site)
    assert dfw("run", "tiny.yaml", capsys=capsys)[0] == 0  # the shipped way to write it: dreamfw/opacity, dreamfw/plane
    code, _, err = dfw("run", "tiny.yaml", "losses.opacity.type=opacity", capsys=capsys)
    assert code == 3
    text = one_error(err)
    assert "acme-squatter/opacity (acme-squatter 6.6)" in text
    assert "dreamfw/opacity (dreamfw " in text
    assert dfw("run", "tiny.yaml", "losses.opacity.type=opacity", "--block", "acme-squatter", capsys=capsys)[0] == 0


def test_two_distributions_of_one_name(site: Path, capsys: pytest.CaptureFixture[str]):
    write_broken(site)
    code, _, err = dfw("run", "tiny.yaml", "losses.twin.weight=1", capsys=capsys)
    assert code == 3
    assert "write one of acme-twin-1/twin (acme-twin-1 1.0), acme-twin-2/twin (acme-twin-2 2.0)" in one_error(err)
    assert dfw("run", "tiny.yaml", "losses.twin.type=acme-twin-2/twin", capsys=capsys)[0] == 0
    origin = json.loads((only_run() / "manifest.json").read_text())["components"]["losses.twin"]
    assert origin == {"name": "acme-twin-2/twin", "distribution": "acme-twin-2", "version": "2.0", "module": "acme_twin_2"}


def arguments_for(kind: str, cls: str) -> list[str]:
    """A configuration in which the component takes part."""
    config = {"geometry": "field.yaml", "guidance": "guided.yaml"}.get(kind, "tiny.yaml")
    return ["run", config, f"{PLACE[kind]}.type=acme-liars/{cls}"]


@pytest.mark.parametrize(("kind", "cls"), HONEST)
def test_what_the_liars_are_made_from_runs(site: Path, kind: str, cls: str, capsys: pytest.CaptureFixture[str]):
    write_liars(site)
    code, _, err = dfw(*arguments_for(kind, cls), "losses.opacity.type=dreamfw/opacity", capsys=capsys)
    assert (code, err) == (0, "")


@pytest.mark.parametrize(("kind", "cls", "exit_code", "said"), LIES, ids=[case[1] for case in LIES])
def test_a_component_that_breaks_its_contract_ends_the_run_with_one_sentence(
    site: Path, kind: str, cls: str, exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    write_liars(site)
    code, _, err = dfw(*arguments_for(kind, cls), capsys=capsys)
    text = one_error(err)
    assert code == exit_code, text
    assert f"{PLACE[kind]} (acme-liars/{cls}, acme-liars 2.1)" in text
    assert said in text
    if "traceback is in" in text:
        assert "Traceback (most recent call last)" in (only_run() / "run.log").read_text()
    if Path("runs").exists():
        assert json.loads((only_run() / "status.json").read_text())["diagnosis"] in text
        assert dfw("run", "tiny.yaml", "seed=1", capsys=capsys)[0] == 0  # the next run is as good as ever


def test_a_scene_with_nothing_to_train_is_refused(site: Path, capsys: pytest.CaptureFixture[str]):
    write_liars(site)
    code, _, err = dfw(*arguments_for("geometry", "FieldFrozen"), capsys=capsys)
    assert code == 2
    assert "nothing to train" in one_error(err)
