"""Trains the prior from scratch: renders the world, trains the autoencoder, then denoiser and text encoder together.

Every stage leaves its result in ``--out`` and is skipped if the result exists. ``--resume`` also continues an unfinished
training of the denoiser. The finished model is ``OUT/model``, a folder that diffusers loads.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from data import World
from diffusers import AutoencoderKL
from export import export
from model import build_scheduler, build_text, build_tokenizer, build_unet, build_vae
from rounds import main as render_rounds
from torch import distributed, multiprocessing
from unet import LatentPool, State, UnetPlan, train_unet
from vae import VaePlan, train_vae


def arguments(argv: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, checkpoints and the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of rendered views (0: use those in OUT)")
    parser.add_argument("--views", type=int, default=96, help="views per kind and round")
    parser.add_argument("--stack-views", type=int, default=24, help="views per pair of solids and round")
    parser.add_argument("--vae-steps", type=int, default=3000)
    parser.add_argument("--vae-minutes", type=float, default=1e9, help="time limit of the autoencoder")
    parser.add_argument("--sharpen-steps", type=int, default=1500, help="further steps of the decoder alone, at the end")
    parser.add_argument("--sharpen-minutes", type=float, default=1e9)
    parser.add_argument("--steps", type=int, default=12000, help="steps of the denoiser")
    parser.add_argument("--minutes", type=float, default=1e9, help="time limit of the denoiser; the rate follows it")
    parser.add_argument("--start", type=Path, help="a finished model: keep its autoencoder, train the rest further")
    parser.add_argument("--rate", type=float, default=1e-3, help="largest learning rate of the denoiser")
    parser.add_argument("--batch", type=int, default=24, help="images per step and process")
    parser.add_argument("--processes", type=int, default=1, help="processes of one thread that train together")
    parser.add_argument("--pool", type=int, default=16384, help="latents kept in memory, per process")
    parser.add_argument("--snapshot-minutes", type=float, default=8.0)
    parser.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt")
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args(argv)


def autoencoder(args: argparse.Namespace, world: World) -> AutoencoderKL:
    """Trains the autoencoder, or loads it from ``OUT/vae`` if it exists."""
    folder = args.out / "vae"
    if folder.exists():
        return AutoencoderKL.from_pretrained(str(folder))
    if args.start:
        vae = AutoencoderKL.from_pretrained(str(args.start / "vae"), torch_dtype=torch.float32)
        vae.save_pretrained(str(folder))
        vae.save_pretrained(str(args.out / "vae_sharp"))
        return vae
    vae = build_vae()
    train_vae(vae, world, VaePlan(steps=args.vae_steps, minutes=args.vae_minutes), args.seed)
    vae.save_pretrained(str(folder))
    return vae


def main(argv: list[str]) -> None:
    """Runs all stages."""
    args = arguments(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.rounds:
        counts = ["--rounds", str(args.rounds), "--views", str(args.views), "--stack-views", str(args.stack_views)]
        render_rounds(["--out", str(args.out / "rounds"), "--seed", str(args.seed), *counts])
    world = World(args.out / "rounds")
    autoencoder(args, world)
    if args.processes == 1:
        denoiser(0, args)
    else:
        multiprocessing.spawn(denoiser, (args,), args.processes)
    finish(args, sharpened(args, world))


def sharpened(args: argparse.Namespace, world: World) -> AutoencoderKL:
    """Trains the decoder further on the latents that the denoiser knows, or loads ``OUT/vae_sharp`` if it exists."""
    folder = args.out / "vae_sharp"
    if folder.exists():
        return AutoencoderKL.from_pretrained(str(folder))
    vae = AutoencoderKL.from_pretrained(str(args.out / "vae"))
    plan = VaePlan(steps=args.sharpen_steps, minutes=args.sharpen_minutes, rate=1e-3, crops=0.0, decoder_only=True)
    train_vae(vae, world, plan, args.seed + 2)
    vae.save_pretrained(str(folder))
    return vae


def finish(args: argparse.Namespace, vae: AutoencoderKL) -> None:
    """Writes ``OUT/model`` from the checkpoint's averaged weights."""
    tokenizer = build_tokenizer(args.out / "tokenizer_0")
    state = State.fresh(build_unet(), build_text(tokenizer), UnetPlan())
    state.load(args.out / "checkpoint.pt")
    export(args.out / "model", vae, state.slow[1], tokenizer, state.slow[0], build_scheduler())


def denoiser(rank: int, args: argparse.Namespace) -> None:
    """Trains denoiser and text encoder as process ``rank`` of ``--processes``. Only the first process writes files."""
    if args.processes > 1:
        torch.set_num_threads(1)
        store = distributed.FileStore(str(args.out / f"store_{os.getppid()}"), args.processes)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=args.processes)
    torch.manual_seed(args.seed)
    world, vae = World(args.out / "rounds"), AutoencoderKL.from_pretrained(str(args.out / "vae"))
    vae.requires_grad_(False).eval()
    tokenizer, scheduler = build_tokenizer(args.out / f"tokenizer_{rank}"), build_scheduler()
    plan = UnetPlan(steps=args.steps, minutes=args.minutes, rate=args.rate, batch=args.batch, pool=args.pool)
    if args.start:
        plan = replace(plan, curriculum=())
    state = State.fresh(build_unet(), build_text(tokenizer), plan)
    if args.start:
        state.start_from(args.start, tokenizer)
    if args.resume and (args.out / "checkpoint.pt").exists():
        state.load(args.out / "checkpoint.pt")
    marks = {"checkpoint": time.monotonic(), "snapshot": time.monotonic()}

    def every(state: State) -> None:
        now = time.monotonic()
        if now - marks["checkpoint"] > 300:
            state.save(args.out / "checkpoint.pt")
            marks["checkpoint"] = now
        if now - marks["snapshot"] > args.snapshot_minutes * 60:
            export(args.out / "snapshot", vae, state.slow[1], tokenizer, state.slow[0], scheduler)
            marks["snapshot"] = now

    seed = args.seed + 1000 * rank + state.step
    train_unet(state, LatentPool(vae, world, tokenizer, plan, seed), scheduler, plan, seed, None if rank else every)
    if rank == 0:
        state.save(args.out / "checkpoint.pt")


if __name__ == "__main__":
    main(sys.argv[1:])
