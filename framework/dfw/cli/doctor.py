"""`dfw doctor`: what this machine offers, and what is wrong with it."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

import click
import rich_click

from dfw.cli.options import use_plugins
from dfw.cli.output import say
from dfw.errors import PluginError
from dfw.plugins.discovery import BUILT_IN, unreadable


@click.command("doctor", cls=rich_click.RichCommand)
def command() -> int:
    """Print versions, devices, caches and plugins.

    Exit code 3 when something that dfw requires is missing or broken.
    """
    use_plugins((), ())
    missing = libraries()
    broken = list(unreadable())  # where torch gave up once, it takes the process with it when it is imported again
    sections = () if broken else (("machine", machine), ("kernels", kernels), ("models", models))
    for title, section in sections:
        try:
            lines = section()
        except Exception as error:  # a broken library is what a doctor is for
            missing.append(f"{title}: {type(error).__name__}: {error}")
            continue
        _print(title, lines)
    missing += broken or plugins()
    for line in missing:
        say(f"MISSING  {line}")
    say("something that dfw requires is missing" if missing else "all that dfw requires is here")
    return PluginError.exit_code if missing else 0


def _print(title: str, lines: dict[str, str]) -> None:
    say(title)
    for name, value in lines.items():
        say(f"  {name:<20} {value}")


def libraries() -> list[str]:
    """Prints the version of every library that dfw requires; returns what is missing or too old."""
    from packaging.requirements import Requirement

    lines, missing = {"python": platform.python_version()}, []
    try:
        wanted = [Requirement(text) for text in requires(BUILT_IN) or []]
    except PackageNotFoundError:
        return [f"{BUILT_IN} itself is not installed; run: pip install -e ."]
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "none"
        lines[requirement.name] = found
        if found == "none" or not requirement.specifier.contains(found, prereleases=True):
            missing.append(f'{requirement} (found: {found}); run: pip install "{requirement}"')
    _print("libraries", {f"{BUILT_IN}": version(BUILT_IN)} | lines)
    return missing


def machine() -> dict[str, str]:
    """Returns what torch says of the processor and the accelerator."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = {"platform": platform.platform(), "CPU": f"{usable} cores usable, {torch.get_num_threads()} threads used"}
    lines["CPU, bf16"] = "in hardware" if torch.cpu._is_avx512_bf16_supported() else "not in hardware: auto is fp32"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            lines[f"cuda:{index}"] = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    else:
        lines["GPU"] = "Apple (mps)" if torch.backends.mps.is_available() else "none; runs use the CPU"
    return lines


def kernels() -> dict[str, str]:
    """Says whether the CUDA backends of warp and nerfacc are there. Without them the portable paths run."""
    from dfw.interfaces.warp_kernels import load_warp

    warp = load_warp()
    lines = {"warp": "CPU and CUDA" if warp.is_cuda_available() else "CPU", "kernels kept in": str(warp.config.kernel_cache_dir)}
    if find_spec("nerfacc.csrc") is not None:
        lines["nerfacc"] = "CUDA backend installed"
    else:
        compiler = shutil.which("nvcc")
        lines["nerfacc"] = (
            f"no CUDA backend; {compiler} can build it" if compiler else "no CUDA backend; the portable path is used"
        )
    return lines


def models() -> dict[str, str]:
    """Says where models of the Hugging Face hub are kept, and whether the network may be asked."""
    from huggingface_hub import constants

    return {
        "cache": str(constants.HF_HUB_CACHE),
        "offline": "yes (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "no",
        "token": "set" if os.environ.get("HF_TOKEN") or os.path.exists(constants.HF_TOKEN_PATH) else "not set",
    }


def plugins() -> list[str]:
    """Loads every installed component and prints what is wrong; returns the built-in ones that fail."""
    from dfw.plugins.listeners import load_listeners
    from dfw.plugins.registry import registry

    known = registry()
    counts: dict[str, int] = {}
    missing: list[str] = []
    for entry in known.entries():
        owner = f"{entry.distribution} {entry.version}"
        try:
            known.load(entry)
        except PluginError as error:
            if entry.distribution == BUILT_IN:
                missing.append(str(error))
            continue
        counts[owner] = counts.get(owner, 0) + 1
    listeners = load_listeners()
    _print("plugins", {owner: f"{count} components" for owner, count in counts.items()})
    for problem in [*known.problems, *listeners.problems]:
        say(f"  problem: {problem}")
    for blocked in known.blocked:
        say(f"  blocked: {blocked.kind} {blocked.qualified}")
    return missing
