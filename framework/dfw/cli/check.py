"""`dfw plugins check`: does a component keep what its interface promises?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich_click

from dfw.cli.options import plugin_options, use_plugins
from dfw.cli.output import say
from dfw.config.kinds import KINDS

if TYPE_CHECKING:
    from dfw.testing.outcomes import Outcome

_WIDEST = len("expected failure")
_KIND = max(map(len, KINDS))


@click.command("check", cls=rich_click.RichCommand)
@click.argument("name", required=False)
@click.option("--kind", type=click.Choice(list(KINDS)), help="Where NAME is used twice; without it both are checked.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="An option of the component; can be given again.")
@click.option("--config", metavar="RUN.yaml", help="A run whose options for NAME, and whose other parts, are used.")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="For guidance: give two that it can tell apart.")
@click.option("--device", default="cpu", show_default=True, help="Where the checks run, e.g. cuda.")
@plugin_options
def check(
    name: str | None,
    kind: str | None,
    overrides: tuple[str, ...],
    config: str | None,
    prompts: tuple[str, ...],
    device: str,
    plugin_files: tuple[Path, ...],
    blocked: tuple[str, ...],
) -> int:
    """Run the conformance kit on the component NAME, in every kind that has one, or look over everything that is installed.

    Exit code 0 when nothing failed, else 2.
    """
    use_plugins(plugin_files, blocked)
    if name is None:
        if kind or overrides or config or prompts or device != "cpu":
            raise click.UsageError("--kind, --set, --config, --prompt and --device belong to one component: give its NAME")
        return _survey()
    from dfw.plugins.registry import registry
    from dfw.testing.check import Request, kit_for
    from dfw.testing.run import run_checks

    kinds: list[str | None] = [kind]
    if not (kind or overrides or config or prompts):  # options are one kind's
        kinds = [*registry().kinds_of(name)] or [None]
    found = [kit_for(registry(), Request(name, one, overrides, config, prompts, device)) for one in kinds]
    failed = [_print(f"{entry.kind} {entry.label} ({entry.target})", run_checks(kit))["failed"] for entry, kit in found]
    return 2 if any(failed) else 0


def _print(title: str, outcomes: Iterable[Outcome]) -> Counter[str]:
    """Prints a line per check as soon as it is done, and returns how many ended how."""
    say(title)
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total[outcome.status] += 1
        reason = " ".join(outcome.reason.split())
        say(f"  {outcome.check:<48}  {outcome.status:<{_WIDEST}}  {reason}".rstrip())
    say("  " + (", ".join(f"{count} {status}" for status, count in total.items()) or "no checks"))
    return total


def _survey() -> int:
    from dfw.plugins.listeners import load_listeners
    from dfw.plugins.registry import registry
    from dfw.testing.check import survey

    known, failed, listeners = registry(), 0, load_listeners()
    unreadable = [*known.problems, *listeners.problems]
    for checked in survey(known):
        entry, outcome = checked.entry, checked.outcome
        failed += outcome.status == "failed"
        words = {"passed": "builds from its defaults", "skipped": "imports"}.get(outcome.status, f"{outcome.check} failed")
        reason = f"  {' '.join(outcome.reason.split())}" if outcome.reason else ""
        say(f"{entry.kind:<{_KIND}} {entry.label:<36} {words}{reason}")
    for listener in listeners.active:
        hooks = ", ".join(listener.hooks)
        say(f"{'listener':<{_KIND}} {f'{listener.name} ({listener.provider})':<36} {hooks}")
    for problem in unreadable:
        say(f"problem: {problem}")
    return 2 if failed or unreadable else 0
