"""A trainable predictor on top of a frozen U-Net.

It adds low-rank weights to the attention and a camera embedding. There is no second network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from dfw.interfaces.data import Conditioning
from dfw.interfaces.guidance import Adapter, Guidance

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""The projections of every attention layer, self and cross."""
_POSE = 16
"""Numbers of one camera_to_world matrix, 4 x 4."""

Place = tuple[nn.Module, str, nn.Module]
"""A module, one of its children's names, and the child."""


class LowRankAdapter(Adapter):
    """LoRA (Hu et al. 2022) for a model with a U-Net, plus a camera embedding that is added to the timestep's embedding.

    peft makes the low-rank layers. They stand in the U-Net only during `forward`; at any other time the model is as loaded. The
    second matrices and the embedding's last layer start at 0, so the adapter starts as the model itself. Added weights are
    float32, whatever the model's precision. ProlificDreamer (Wang et al. 2023), section 3.2.
    """

    def __init__(self, model: Guidance, unet: nn.Module, rank: int, generator: torch.Generator) -> None:
        """Adapts `model`, whose `predict` calls `unet`, a diffusers UNet2DConditionModel. Draws weights from `generator`."""
        super().__init__()
        device = next(unet.parameters()).device
        self._model = (model, unet)  # a tuple, so that torch does not register them as sub-modules
        self._places = _low_rank_layers(unet, rank)
        self.layers = nn.ModuleDict({_key(name): _added(layer) for name, (_, _, layer) in self._places.items()})
        width = int(unet.time_embedding.linear_2.out_features)  # type: ignore[union-attr,arg-type]
        self.camera = nn.Sequential(nn.Linear(_POSE, width, device="meta"), nn.SiLU(), nn.Linear(width, width, device="meta"))
        self.to_empty(device=device).float().requires_grad_()
        with torch.no_grad():
            for layer in self.layers.values():
                _draw(layer["A"], generator)  # type: ignore[index]
                layer["B"].weight.zero_()  # type: ignore[index]
            _draw(self.camera[0], generator)
            for parameter in self.camera[2].parameters():
                parameter.zero_()

    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns the model's `predict` (B, C, h, w) with the low-rank weights, and with the cameras if they are known.

        A camera is given by the 16 numbers of its camera_to_world. Sixteen zeros stand for any camera.
        """
        model, unet = self._model
        with ExitStack() as stack:
            stack.enter_context(_in_place(self._places.values()))
            if conditioning.cameras is not None:
                pose = conditioning.cameras.camera_to_world.flatten(1).to(next(self.camera.parameters()))
                stack.enter_context(_added_to(unet.time_embedding, self.camera(pose)))
            return model.predict(noisy, timestep, conditioning)


def _low_rank_layers(unet: nn.Module, rank: int) -> dict[str, Place]:
    """Makes peft's layer for every attention projection, keyed by the projection's name. Leaves `unet` as it was."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)
    inject_adapter_in_model(config, unet, low_cpu_mem_usage=True)  # on the meta device, so that peft draws nothing
    del unet.peft_config
    found: dict[str, Any] = {name: layer for name, layer in unet.named_modules() if isinstance(layer, LoraLayer)}
    places: dict[str, Place] = {}
    for name, layer in found.items():
        parent, _, child = name.rpartition(".")
        places[name] = (unet.get_submodule(parent), child, layer)
        setattr(unet.get_submodule(parent), child, layer.get_base_layer())
    return places


def _added(layer: Any) -> nn.ModuleDict:
    """Returns the two matrices that peft adds, without the layer under them."""
    (name,) = layer.active_adapters
    return nn.ModuleDict({"A": layer.lora_A[name], "B": layer.lora_B[name]})


def _key(name: str) -> str:
    """Turns a module's path into a name that ModuleDict accepts."""
    return name.replace(".", "_")


def _draw(layer: Any, generator: torch.Generator) -> None:
    """Fills `layer` with nn.Linear's own initial values, U(-1, 1) / sqrt(inputs), from `generator`."""
    bound = 1 / math.sqrt(layer.in_features)
    for parameter in layer.parameters():
        values = torch.empty(parameter.shape, device=generator.device)
        parameter.copy_(values.uniform_(-bound, bound, generator=generator))


@contextmanager
def _in_place(places: Any) -> Iterator[None]:
    """Puts each layer in its place while the block runs, then restores what stood there before."""
    before = [(parent, name, getattr(parent, name)) for parent, name, _ in places]
    try:
        for parent, name, layer in places:
            setattr(parent, name, layer)
        yield
    finally:
        for parent, name, layer in before:
            setattr(parent, name, layer)


@contextmanager
def _added_to(module: Any, embedding: Tensor) -> Iterator[None]:
    """Adds `embedding` (B, D) to the output of `module` while the block runs."""

    def add(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output + embedding.to(output.dtype)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
