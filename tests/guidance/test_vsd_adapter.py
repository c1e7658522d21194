"""Variational score distillation on tiny models of the real classes: its adapter, and a run with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import loss_inputs
import pytest
import torch
from tiny_control import save_tiny_controlnet
from tiny_diffusion import save_tiny_model
from torch import Tensor, nn
from vsd_parts import adapter_of, bound, seeded

from dfw import CameraBatch, Conditioning, ConfigError, Guidance, LossInputs, PromptBatch, Views
from dfw.compose import compose
from dfw.config.settings import RunConfig
from dfw.interfaces.poses import orbit
from dfw.runs.start import make_trainer
from dfw.runs.trainer import Trainer
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.stable_diffusion import StableDiffusion
from dfw_losses.vsd import VSD, drop_cameras


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", prediction_type="v_prediction")


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusion:
    return load(folder)


def load(folder: Path, precision: str = "fp32") -> StableDiffusion:
    return StableDiffusion(StableDiffusion.Config.model_validate({"model": str(folder), "precision": precision}))


@pytest.fixture
def loss(model: StableDiffusion) -> VSD:
    return bound(model, adapter_lr=0.02)


def around(count: int, turn: float = 0) -> CameraBatch:
    return orbit(count, 15 + turn, 3.0, 40.0, 16, 16, torch.device("cpu"))


def ask_model(model: Guidance, seed: int = 0, batch: int = 2) -> LossInputs:
    """A random picture, leaf of the graph, from cameras that are known."""
    image = torch.rand(batch, 3, 16, 16, generator=seeded(9)).requires_grad_()
    inputs = loss_inputs.of_image(image, model, "a red car", seed=seed)
    assert inputs.prompt is not None
    cameras = around(batch)
    positive, negative = (replace(one, cameras=cameras) for one in (inputs.prompt.positive, inputs.prompt.negative))
    prompt = PromptBatch(positive, negative)
    return replace(inputs, views=Views(cameras), prompt=prompt)


def probe(model: Guidance, cameras: CameraBatch | None = None) -> tuple[Tensor, Tensor, Conditioning]:
    text = replace(model.encode_text(["a red car", ""]), cameras=cameras)
    side = model.latent_resolution
    return torch.randn(2, model.channels, side, side, generator=seeded(4)), torch.tensor([100, 700]), text


def train(loss: VSD, model: Guidance, steps: int = 3) -> None:
    for seed in range(steps):
        loss.end_step(ask_model(model, seed=seed))


def test_neither_its_presence_nor_its_training_changes_a_bit_of_the_model(model):
    """The same tensors, the same modules, the same predictions as before."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modules, before = list(model.modules()), model.predict(*probe(model))
    loss = bound(model, adapter_lr=0.02)
    adapter = adapter_of(loss)
    assert torch.equal(model.predict(*probe(model)), before)
    assert torch.equal(adapter(*probe(model, around(2))), before)  # it starts as the model, for any camera
    train(loss, model)
    assert (adapter(*probe(model, around(2))) - before).abs().max() > 1e-3
    assert torch.equal(model.predict(*probe(model)), before)
    assert list(model.modules()) == modules
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert not hasattr(model.unet, "peft_config")


def test_an_error_inside_leaves_the_model_as_it_was(model, loss):
    train(loss, model)
    before = model.predict(*probe(model))
    z, t, text = probe(model, around(2))
    with pytest.raises(RuntimeError):
        adapter_of(loss)(z, t, replace(text, embedding=text.embedding[..., :3]))
    assert torch.equal(model.predict(*probe(model)), before)


def test_two_adapters_of_one_model_know_nothing_of_each_other(model, loss):
    other = bound(model, seed=1)
    train(loss, model)
    assert torch.equal(adapter_of(other)(*probe(model, around(2))), model.predict(*probe(model)))


def test_its_state_is_what_was_added_and_nothing_else(model, loss):
    """Two matrices for each attention projection, two layers for the camera; all in float32, all trained, all used."""
    projections = [
        name
        for name, _ in model.unet.named_modules()
        if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0")) and ".attn" in name
    ]
    assert len(projections) >= 16
    expected = {f"adapter.layers.{name.replace('.', '_')}.{part}.weight" for name in projections for part in "AB"}
    expected |= {f"adapter.camera.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
    assert set(loss.state_dict()) == expected
    assert all(value.dtype == torch.float32 for value in loss.state_dict().values())
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    train(loss, model)
    assert not [name for name, value in loss.state_dict().items() if torch.equal(value, before[name])]
    assert loss.parameter_groups() == {}


def test_initial_weights_come_from_the_generator_and_no_global_state_is_drawn(model):
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first, again, other = (bound(model, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name in first if name.endswith("A.weight")]
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    assert all(0.3 < first[name].std() * (3 * first[name].shape[1]) ** 0.5 < 2 for name in drawn)  # U(-1, 1) / sqrt(inputs)


def test_the_camera_matters_once_it_is_trained(model, loss):
    adapter = adapter_of(loss)
    here, there = probe(model, around(2)), probe(model, around(2, turn=50))
    assert torch.equal(adapter(*here), adapter(*there))
    train(loss, model)
    assert (adapter(*here) - adapter(*there)).abs().max() > 1e-4
    nowhere = adapter(*probe(model))
    assert (adapter(*here) - nowhere).abs().max() > 1e-4


def test_neither_gradient_reaches_the_other(model, loss):
    """The scene's goes to the picture alone; the adapter's to its own weights alone."""
    train(loss, model)
    inputs = ask_model(model)
    loss(inputs).backward()
    colour = inputs.render.colour
    (gradient,) = torch.autograd.grad(loss(ask := ask_model(model)), ask.render.colour)
    assert gradient.abs().max() > 0
    loss.optimizers()["adapter"].zero_grad()
    loss(ask_model(model)).backward()
    assert all(parameter.grad is None for parameter in loss.parameters())
    seen: list[Tensor] = []
    handle = colour.register_hook(seen.append)
    loss.end_step(inputs)
    handle.remove()
    assert seen == []
    assert all(parameter.grad is not None for parameter in loss.parameters())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_adapter_descends_the_diffusion_objective_of_the_models_own_parametrisation(kind, tmp_path):
    """Of the same draws: what end_step leaves in .grad is the objective's gradient, its target written out here."""
    model = load(save_tiny_model(tmp_path / kind, prediction_type=kind))
    loss = bound(model, camera_dropout=0)
    train(loss, model, steps=1)
    inputs, draws = ask_model(model, seed=5), seeded(5)
    clean = inputs.encoded.detach()
    t = torch.randint(0, 1000, (2,), generator=draws)
    eps = torch.randn(clean.shape, generator=draws)
    alpha, sigma = (part[t].view(2, 1, 1, 1) for part in (model.schedule.alpha, model.schedule.sigma))
    target = {"epsilon": eps, "v_prediction": alpha * eps - sigma * clean, "sample": clean}[kind]
    error = adapter_of(loss)(alpha * clean + sigma * eps, t, inputs.prompt.positive) - target
    expected = torch.autograd.grad(error.square().sum() / 2, list(loss.parameters()))
    loss.end_step(inputs)
    for parameter, gradient in zip(loss.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_cameras_are_dropped_one_by_one(model):
    cameras = around(8).select(torch.arange(400) % 8)
    text, other = (replace(model.encode_text([words] * 400), cameras=cameras) for words in ("a red car", ""))
    nowhere = replace(cameras, camera_to_world=torch.zeros(400, 4, 4))
    found = drop_cameras(text, replace(other, cameras=nowhere), 0.1, seeded())
    gone = (found.cameras.camera_to_world == 0).all((1, 2))
    assert 20 < int(gone.sum()) < 60
    assert torch.equal(found.cameras.camera_to_world[~gone], cameras.camera_to_world[~gone])
    assert torch.equal(found.embedding[~gone], text.embedding[~gone])
    assert torch.equal(found.embedding[gone], other.embedding[gone])
    assert (text.embedding != other.embedding).any()
    assert drop_cameras(replace(text, cameras=None), replace(other, cameras=None), 0.1, seeded()).cameras is None


@pytest.mark.parametrize(("precision", "off"), [("fp16", 0.01), ("bf16", 0.05)])
def test_the_adapters_gradient_through_half_precision_is_that_of_single(folder, precision, off):
    """Neither flushed to zero nor overflowed; the residual is summed over a view's numbers, so its entries are of order 1."""
    found = {}
    for kind in ("fp32", precision):
        model = load(folder, kind)
        loss = bound(model, camera_dropout=0)
        with torch.no_grad():
            for parameter in loss.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=seeded(parameter.numel())))
        loss.end_step(ask_model(load(folder), seed=5))
        found[kind] = torch.cat([parameter.grad.flatten() for parameter in loss.parameters()])
    assert found["fp32"].norm() > 1
    assert (found[precision] - found["fp32"]).norm() < off * found["fp32"].norm()


def test_half_precision_of_the_model_leaves_what_was_added_in_single(folder):
    model = load(folder, "bf16")
    loss = bound(model, adapter_lr=0.02)
    before = model.predict(*probe(model))
    assert torch.equal(adapter_of(loss)(*probe(model, around(2))), before)
    train(loss, model)
    assert {value.dtype for value in loss.state_dict().values()} == {torch.float32}
    assert {parameter.dtype for parameter in model.unet.parameters()} == {torch.bfloat16}
    assert torch.equal(model.predict(*probe(model)), before)


def test_a_control_network_keeps_its_say_in_the_adapters_prediction(tmp_path):
    folder, network = save_tiny_model(tmp_path / "tiny"), save_tiny_controlnet(tmp_path / "network")
    model = ControlNet(ControlNet.Config(model=str(folder), controlnet=str(network), precision="fp32"))
    z, t, text = probe(model, around(2))
    shown = replace(text, control=torch.rand(2, 3, 16, 16, generator=seeded()))
    adapter = model.adapter(4, seeded())
    assert torch.equal(adapter(z, t, shown), model.predict(z, t, shown))
    assert (adapter(z, t, shown) - adapter(z, t, text)).abs().max() > 1e-3


# -- in a run ----------------------------------------------------------------------------------------------------------


def run_config(tmp_path: Path, folder: Path, **changes: object) -> RunConfig:
    base = {
        "prompt": "a red car",
        "output": str(tmp_path / "runs"),
        "device": "cpu",
        "geometry": {"type": "image", "width": 16, "height": 16},
        "renderer": {"type": "plane"},
        "guidance": {"type": "stable-diffusion", "model": str(folder), "precision": "fp32"},
        "losses": {"vsd": {"adapter_lr": 0.01}},
        "prompter": "plain",
        "cameras": {"width": 16, "batch_size": 2},
        "trainer": {"steps": 6},
    }
    return RunConfig.model_validate(base | changes)


def bits(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """Scene, added weights and the state of both optimisers."""
    modules: dict[str, nn.Module] = trainer.modules
    for name, module in modules.items():
        yield from ((f"{name}.{key}", value) for key, value in module.state_dict().items())
    for name, optimizer in trainer.optimizers.items():
        for index, entry in optimizer.state_dict()["state"].items():
            yield from ((f"{name}.{index}.{key}", value) for key, value in entry.items())


def test_an_interrupted_run_resumes_to_the_same_bits_the_adapter_and_its_optimiser_included(tmp_path, folder):
    config = run_config(tmp_path, folder)

    def fresh() -> Trainer:
        return make_trainer(config, compose(config).build())

    whole, records, ours = fresh(), [], []
    whole.train(lambda: False, records.append)
    parts = fresh()
    parts.train(lambda: parts.step == 3, ours.append)
    path = parts.save(tmp_path / "checkpoints")
    assert (path / "loss.vsd.safetensors").stat().st_size < 100_000  # nothing of the model's
    again = fresh()
    again.restore(path)
    again.train(lambda: False, ours.append)
    expected = dict(bits(whole))
    found = dict(bits(again))
    assert found.keys() == expected.keys()
    assert any(name.startswith("loss.vsd.adapter.") and name.endswith("exp_avg_sq") for name in found)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert [(r.step, r.loss, r.grad_norm) for r in ours] == [(r.step, r.loss, r.grad_norm) for r in records]


def test_a_prior_without_adapter_is_refused_before_it_is_loaded(tmp_path):
    config = run_config(tmp_path, tmp_path / "nothing", guidance={"type": "deep-floyd"})
    with pytest.raises(ConfigError, match=r"losses\.vsd.*needs adapter; guidance dreamfw/deep-floyd .*does not provide it"):
        compose(config)


def test_before_it_is_bound_it_says_what_to_do(model):
    with pytest.raises(ConfigError, match="call bind"):
        VSD(VSD.Config())(ask_model(model))
