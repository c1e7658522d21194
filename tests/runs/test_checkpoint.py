import json

import pytest
import torch
from torch import nn

from dfw.errors import CheckpointError
from dfw.runs.checkpoint import load_checkpoint, save_checkpoint
from dfw.runs.checkpoint_folder import list_checkpoints, newest_checkpoint
from dfw.runs.random_streams import Streams

CPU = torch.device("cpu")


def make(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer, Streams]:
    module = nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.rand(p.shape, generator=generator))
    return module, torch.optim.Adam([{"params": list(module.parameters()), "name": "g"}], lr=0.1, fused=True), Streams(seed, CPU)


def advance(module, optimizer, streams, steps):
    for _ in range(steps):
        loss = module(torch.rand(4, 3, generator=streams["noise"])).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_restored_training_goes_on_to_the_same_bits(tmp_path):
    module, optimizer, streams = make()
    advance(module, optimizer, streams, 5)
    path = save_checkpoint(tmp_path, 5, {"m": module}, {"optimizer": optimizer}, streams.state(), keep=2)
    advance(module, optimizer, streams, 7)
    other, other_optimizer, other_streams = make(seed=3)
    step, state = load_checkpoint(path, {"m": other}, {"optimizer": other_optimizer})
    other_streams.load_state(state)
    advance(other, other_optimizer, other_streams, 7)
    assert step == 5
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_only_the_newest_stay_and_nothing_temporary_is_left(tmp_path):
    module, optimizer, streams = make()
    advance(module, optimizer, streams, 1)
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"m": module}, {"optimizer": optimizer}, streams.state(), keep=2)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-000002", "step-000003"]


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint here"):
        newest_checkpoint(tmp_path)
    (tmp_path / "step-000009").mkdir()
    with pytest.raises(CheckpointError, match=r"no checkpoint can be restored \(step-000009: state\.json cannot be read"):
        newest_checkpoint(tmp_path)


def test_nothing_is_pickled(tmp_path):
    module, optimizer, streams = make()
    advance(module, optimizer, streams, 1)
    path = save_checkpoint(tmp_path, 1, {"m": module}, {"optimizer": optimizer}, streams.state(), keep=1)
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((path / "state.json").read_text())["step"] == 1


def test_another_shape_or_a_damaged_file_is_one_clear_error(tmp_path):
    module, optimizer, streams = make()
    advance(module, optimizer, streams, 1)
    path = save_checkpoint(tmp_path, 1, {"m": module}, {"optimizer": optimizer}, streams.state(), keep=1)
    with pytest.raises(CheckpointError, match="cannot be restored"):
        load_checkpoint(path, {"m": nn.Linear(9, 9)}, {})
    (path / "m.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match=r"m\.safetensors is damaged"):
        load_checkpoint(path, {"m": module}, {})
