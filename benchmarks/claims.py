"""Measures what score distillation claims: the tables and pictures of docs/claims.md.

    python benchmarks/claims.py --out docs/images            # all four claims, some minutes on two cores
    python benchmarks/claims.py --only cost,kl               # some of them

It prints Markdown, and writes `claims-variance.svg` and `claims-pictures.png` into --out. Seeds are fixed; times vary with the
machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from claims_figures import (
    SKY,
    Cost,
    asked,
    crossing,
    embedded,
    entropy_terms,
    jacobian_cost,
    jacobian_gain,
    kl_identity,
    kl_prior,
    sky,
    spread,
)
from claims_pictures import PROMPTS, pictures, rows_of, sheet, table
from torch import Tensor

from dfw import Guidance
from dfw.prior.sample import ddim
from dfw.report.plot import Line, log_plot

PROMPT = "a red mushroom, front view"
MIB = 2**20


def cost_table(costs: dict[str, dict[str, Cost]]) -> str:
    """Returns the cost of both gradients with and without the Jacobian, and the ratio."""
    lines = ["| gradient at | figure | `sds` | `diffusion` | ratio |", "|---|---|---|---|---|"]
    for way, found in costs.items():
        sds, full = found["sds"], found["diffusion"]
        for figure, a, b in (
            ("wall, ms", 1e3 * sds.wall, 1e3 * full.wall),
            ("CPU, ms", 1e3 * sds.cpu, 1e3 * full.cpu),
            ("saved for backward, MiB", sds.saved / MIB, full.saved / MIB),
        ):
            lines.append(f"| {way} | {figure} | {a:.1f} | {b:.1f} | {f'{b / a:.2f}' if a else ''} |")
    return "\n".join(lines)


def show_cost(out: Path) -> None:
    """Prints claim 1."""
    prior = embedded()
    print(f"4 views of 64x64, 7.5 guidance, {torch.get_num_threads()} threads, medians of 15\n")
    print(cost_table(jacobian_cost(prior, PROMPT, views=4, repeats=15)))
    timesteps = [20, 100, 200, 400, 600, 800, 979]
    found = jacobian_gain(prior, PROMPT, drawn(prior), timesteps, 16)
    data = jacobian_gain(sky(), SKY, torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64), timesteps, 16)
    print("\n| t | gain, embedded | cosine, embedded | gain, Gaussian data | cosine |\n|---|---|---|---|---|")
    for a, b in zip(found, data, strict=True):
        print(f"| {a.timestep} | {a.gain:.3f} | {a.cosine:.2f} | {b.gain:.3f} | {b.cosine:.2f} |")


def drawn(prior: Guidance) -> Tensor:
    """Samples a picture (1, 3, 64, 64) of the prompt by DDIM, where an optimisation would end."""
    _, prompt = asked(prior, PROMPT, 1)
    return ddim(prior, prompt, 25, 7.5, torch.Generator().manual_seed(0))


def show_variance(out: Path) -> None:
    """Prints claim 2 and writes its figure."""
    timesteps = [20, 60, 100, 200, 300, 400, 500, 600, 800, 979]
    data = sky()
    grey = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    exact = [spread(data, grey, SKY, 1.0, t, 20_000) for t in timesteps]
    print("| t | Var SDS | closed form | Var score | closed form | means differ by (errors) |\n|---|---|---|---|---|---|")
    for s in exact:
        print(f"| {s.timestep} | {s.sds:.4g} | {s.exact_sds:.4g} | {s.score:.4g} | {s.exact_score:.4g} | {s.off:.1f} |")
    print(f"\nsigma_t > alpha_t s from t = {crossing(data)} on\n")
    prior = embedded()
    picture, flat = drawn(prior), torch.full((1, 3, 64, 64), 0.5)
    cases = {"picture, s = 1": (picture, 1.0), "grey, s = 1": (flat, 1.0), "picture, s = 10": (picture, 10.0)}
    rows = {name: [spread(prior, at, PROMPT, scale, t, 64) for t in timesteps] for name, (at, scale) in cases.items()}
    print("Var SDS / Var score, embedded prior\n\n| t | " + " | ".join(rows) + " |\n" + "|---" * (len(rows) + 1) + "|")
    for place, t in enumerate(timesteps):
        print(f"| {t} | " + " | ".join(f"{row[place].sds / row[place].score:.3g}" for row in rows.values()) + " |")
    print("largest difference of means, errors:", {name: round(max(s.off for s in row), 1) for name, row in rows.items()})
    lines = [
        Line("SDS, closed form", [s.exact_sds or 0 for s in exact]),
        Line("score, closed form", [s.exact_score or 0 for s in exact]),
        Line("SDS, embedded", [s.sds for s in rows["picture, s = 1"]]),
        Line("score, embedded", [s.score for s in rows["picture, s = 1"]]),
    ]
    svg = log_plot("Variance of one draw", "timestep", "variance of a number", timesteps, lines)
    (out / "claims-variance.svg").write_text(svg, encoding="utf-8")


def show_kl(out: Path) -> None:
    """Prints claim 3."""
    data = kl_prior()
    header = "| t | w (sigma/alpha) grad KL | distance of mean SDS | its standard error | largest, in errors |"
    print(f"{header}\n|---|---|---|---|---|")
    for t in (20, 100, 200, 400, 600, 800, 979):
        i = kl_identity(data, (0.8, 0.2, 0.5), t, 200_000)
        print(f"| {i.timestep} | {i.kl_gradient:.5f} | {i.distance:.1e} | {i.error:.1e} | {i.off:.1f} |")
    eps = torch.randn(10_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    path, own = entropy_terms(0.8, 0.6, torch.full_like(eps, 0.3), eps)
    figures = [float(value.square().mean().sqrt()) for value in (path, own, path + own)]
    print("\n(A) at alpha 0.8, sigma 0.6: path term {:.3f}, own term {:.3f}, sum {:.1e} (rms)".format(*figures))


def show_pictures(out: Path) -> None:
    """Prints claim 4 and writes its pictures."""
    made = {prompt: pictures(prompt) for prompt in PROMPTS}
    print(table(made))
    sheet(rows_of(made)).save(out / "claims-pictures.png", optimize=True)


CLAIMS = {"cost": show_cost, "variance": show_variance, "kl": show_kl, "pictures": show_pictures}


def main() -> None:
    """Measures, prints and writes pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder for the pictures")
    parser.add_argument("--only", default=",".join(CLAIMS), help=f"comma-separated, of {', '.join(CLAIMS)}")
    args = parser.parse_args()
    chosen = args.only.split(",")
    for name in chosen:
        if name not in CLAIMS:
            parser.error(f"--only: {name!r} is unknown; write some of {', '.join(CLAIMS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        start = time.perf_counter()
        print(f"\n## {name}\n", flush=True)
        CLAIMS[name](args.out)
        print(f"\n({name}: {time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
