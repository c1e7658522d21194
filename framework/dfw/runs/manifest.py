"""What manifest.json says of a run: how it was asked for, the machine, the libraries, and the parts that made it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

import dfw
from dfw.atomic import unused, write_whole
from dfw.compose import Composition
from dfw.interfaces.component import Component, name_of
from dfw.plugins.fence import plugin_code
from dfw.plugins.listeners import PluginFile
from dfw.ranks.processes import party
from dfw.runs.call import Call

MANIFEST = "manifest.json"
LIBRARIES = (
    *("dreamfw", "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "warp-lang", "nerfacc", "numpy"),
    *("PyMCubes", "xatlas", "trimesh"),
)
"""Distributions that influence a result."""
PATIENCE = 5  # seconds for git, which may look at a large checkout on a slow disk


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that influence a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found


def machine(device: torch.device) -> dict[str, Any]:
    """Returns what a run's bits depend on besides libraries: device, GPU, processor, number of threads, of processes."""
    found: dict[str, Any] = {"device": str(device)}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found | {"processor": processor(), "threads": torch.get_num_threads(), "processes": party().count}


@cache
def processor() -> str:
    """Returns the type of the processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def commit() -> str:
    """Returns the git commit of the checkout that this package lies in, with `-dirty` after changes; else nothing."""
    package = Path(dfw.__file__).parent
    ask = ["git", "-C", str(package)]
    quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        for question in (
            ["ls-files", "--error-unmatch", "__init__.py"],
            ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        ):
            answer = subprocess.run([*ask, *question], capture_output=True, text=True, check=True, timeout=PATIENCE, env=quiet)
    except (OSError, subprocess.SubprocessError):  # no git, or not in a checkout: it lies in somebody's environment
        return ""
    return answer.stdout.strip()


def request(call: Call, seed: int) -> dict[str, Any]:
    """Returns what was asked for, when, and of which version of dfw."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = {"command": call.command, "directory": str(Path.cwd()), "seed": seed, "date": now}
    return found | ({"sweep": call.sweep} if call.sweep else {}) | ({"commit": commit()} if commit() else {})


def component_facts(composition: Composition, components: Iterable[Component]) -> dict[str, dict[str, Any]]:
    """Returns configuration path -> origin of each part, with `facts` for those of `components` that say something.

    Raises PluginError, which names the component, if it fails to say it or if JSON cannot hold it.
    """
    found: dict[str, dict[str, Any]] = {key: dict(entry.facts()) for key, entry in composition.origins().items()}
    for component in (one for outer in components for one in _with_inner(outer)):
        with plugin_code(name_of(component), "cannot say facts that JSON can hold (`facts`)"):
            facts = json.loads(json.dumps(dict(component.facts()), allow_nan=False))
        if facts and component.dfw_path in found:
            found[component.dfw_path]["facts"] = facts
    return found


def described(components: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a line for each of `components` (as `component_facts` gives them) that says something of itself."""
    facts = {path: component["facts"] for path, component in components.items() if "facts" in component}
    return [f"{path}: {', '.join(f'{name} {value}' for name, value in said.items())}" for path, said in facts.items()]


def changed_facts(recorded: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each fact that a component gave when the run was made, and that is different now."""
    return [
        f"{path}: {name} was {value} when the run was made and is {now[path].get('facts', {}).get(name, 'not known')} now. "
        "The run does not go on to the same bits"
        for path, component in recorded.items()
        if path in now
        for name, value in component.get("facts", {}).items()
        if now[path].get("facts", {}).get(name) != value
    ]


def _with_inner(component: Component) -> Iterator[Component]:
    """Gives a component, and those that stand inside it."""
    yield component
    if isinstance(component, nn.Module):
        yield from (one for one in component.modules() if one is not component and isinstance(one, Component))


def copy_plugins(run: Path, files: Sequence[PluginFile], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Copies the `--plugin` files that `recorded` does not hold yet into the run, and returns the manifest's entry for all."""
    found = dict(recorded)
    known = {one.get("sha256") for one in recorded.values()}
    for file in files:
        if file.digest not in known:
            copy = unused(run / "plugins" / file.path.name)
            copy.parent.mkdir(exist_ok=True)
            write_whole(copy, file.source)
            found[copy.name] = {"path": str(file.path), "sha256": file.digest}
    return found


def changed_plugins(run: Path, files: Sequence[PluginFile], recorded: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each `--plugin` file that has the name of a `recorded` one and other contents."""
    known = {one.get("sha256") for one in recorded.values()}
    names = {Path(str(one.get("path"))).name: name for name, one in recorded.items()}
    return [
        f"--plugin {file.path}: has changed since the run was made; {run / 'plugins' / names[file.path.name]} is as it was then"
        for file in files
        if file.path.name in names and file.digest not in known
    ]


def missing_plugins(run: Path, files: Sequence[PluginFile], recorded: Mapping[str, Any]) -> str:
    """Returns the `--plugin` options for the `recorded` files that this process has not been given; empty where it has all."""
    here = {file.digest for file in files} | {file.path.name for file in files}
    lacking = [name for name, one in recorded.items() if not here & {one.get("sha256"), Path(str(one.get("path"))).name}]
    return " ".join(f"--plugin {run / 'plugins' / name}" for name in lacking)


def changed_versions(recorded: Mapping[str, Mapping[str, str]], composition: Composition) -> list[str]:
    """A sentence for each component whose distribution has another version than the `recorded` origins of the manifest say."""
    sentences = []
    for key, now in composition.origins().items():
        then = recorded.get(key, {})
        if then.get("distribution") == now.distribution and then.get("version", now.version) != now.version:
            sentences.append(
                f"{key}: the run was made with {now.qualified} of {now.distribution} {then['version']} and goes on with "
                f"{now.version}; install {now.distribution}=={then['version']} for the same bits"
            )
    return sentences


def changed_machine(recorded: Mapping[str, Any], device: torch.device) -> list[str]:
    """A sentence for whatever else the bits depend on and is not as `recorded` in the manifest."""
    now, sentences = machine(device), []
    for key, name in (("gpu", "GPU"), ("processor", "processor")):
        if key in recorded and key in now and recorded[key] != now[key]:
            both = f"the run was made with the {name} {recorded[key]} and goes on with {now[key]}"
            sentences.append(f"{both}; the last digits of its numbers may differ")
    threads = recorded.get("threads", now["threads"])
    if threads != now["threads"]:
        sentences.append(
            f"the run was made with {threads} threads and goes on with {now['threads']}, so sums are added in another order and "
            f"last digits may differ; write trainer.threads={threads} for the same bits"
        )
    processes = recorded.get("processes", 1)
    if processes != now["processes"]:
        sentences.append(
            f"the run was made with {processes} processes and goes on with {now['processes']}; the last digits of its numbers "
            "may differ"
        )
    then, here = recorded.get("versions", {}), versions()
    others = [name for name in (*LIBRARIES[1:], "python") if then.get(name, here[name]) != here[name]]
    if others:
        old = ", ".join(f"{name} {then[name]}" for name in others)
        new = ", ".join(f"{name} {here[name]}" for name in others)
        sentences.append(f"the run was made with {old} and goes on with {new}; install the former for the same bits")
    return sentences
