"""A run of two processes gives what one gives, up to rounding, while Gaussians are cloned, split and pruned."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

CONFIG = Path(__file__).parents[1] / "configs" / "adaptive.yaml"
ARGUMENTS = [
    *("prompt=a red ball", "guidance={type: dreamfw/gaussian, means: {a red ball: [0.8, 0.3, 0.1]}, resolution: 16}"),
    *("prompter=plain", "device=cpu", "geometry.capacity=300", "geometry.initial=60", "geometry.control.every=2"),
    *(
        "geometry.control.start=0",
        "cameras.width=16",
        "cameras.batch_size=3",
        "optimizer.type=sgd",
        "trainer.steps=5",
        "trainer.preview_every=50",
    ),
    *("trainer.preview_width=16", "export.turntable_frames=0", "export.formats=[]"),
]


def begun(folder: Path, count: int) -> list[subprocess.Popen[str]]:
    """The processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "dfw", "run", str(CONFIG), *ARGUMENTS, f"output={folder}"]
    return [
        subprocess.Popen(
            command, env=os.environ | place | {"RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(count)
    ]


def result(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """The last checkpoint's Gaussians and optimiser, and the metrics."""
    (run,) = folder.glob("*/*")
    (last,) = run.glob("checkpoints/step-000005")
    state = {f"{file.stem}.{key}": value for file in last.glob("*.safetensors") for key, value in load_file(file).items()}
    return state, [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    processes = {count: begun(tmp_path / str(count), count) for count in (1, 2)}
    for several in processes.values():
        for process in several:
            said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said
    (one, rows), (two, others) = result(tmp_path / "1"), result(tmp_path / "2")
    assert max(row["geometry.split"] + row["geometry.cloned"] for row in rows if "geometry.split" in row) > 0
    assert [row["geometry.gaussians"] for row in rows] == [row["geometry.gaussians"] for row in others]
    assert one.keys() == two.keys()
    for key, value in one.items():
        off = float((two[key].double() - value.double()).abs().max())
        assert off <= 1e-4 * max(float(value.double().abs().max()), 1e-3), (key, off)
