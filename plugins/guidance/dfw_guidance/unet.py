"""Loads a U-Net, and refuses one that asks for more than a text and the noise level."""

from __future__ import annotations

from typing import Any

from dfw_guidance.files import Files

_ASKS = {
    "class_embed_type": "a class or an image embedding, as Stable Diffusion 2.1 unCLIP does",
    "num_class_embeds": "a class",
    "time_cond_proj_dim": "its guidance scale, as a latent consistency model does: such a model jumps to the end of sampling "
    "and predicts no noise",
    "addition_embed_type": "another embedding next to the text",
    "encoder_hid_dim_type": "another embedding in place of the text",
}
"""Field of a U-Net's configuration -> what the network asks for if the field is set."""
_KINDS = ("", ", and one that sees a picture reads twice as many as it predicts")
"""What follows in a message, for a U-Net that should read none or one picture next to the noisy one."""
_TEXT_ALONE = {"encoder_hid_dim_type": "text_proj", "addition_embed_type": "text"}
"""Values for which the network makes that embedding from the text itself."""


def load_unet(files: Files, addition: str | None = None, variance: bool = False, beside: int = 0, told: bool = False) -> Any:
    """Loads the U-Net of a model.

    `addition`: the `addition_embed_type` that the caller serves. `variance`: it may predict one. `beside`: how many pictures it
    reads next to the noisy one, as further channels. `told`: whether the caller tells it a guidance scale if it asks for one.

    Raises ValueError that names what the network asks for if nobody can give it, or if it predicts another number of channels.
    """
    from diffusers import UNet2DConditionModel

    unet = files.network(UNet2DConditionModel, "unet")
    config = unet.config
    for field, what in _ASKS.items():
        value = getattr(config, field)
        if field == "time_cond_proj_dim" and told:
            continue
        if field == "addition_embed_type" and addition is not None:
            if value != addition:
                raise ValueError(f"its U-Net has {field}={value}, and this kind of model has {addition}")
        elif value is not None and value != _TEXT_ALONE.get(field):
            raise ValueError(f"its U-Net asks for {what} ({field}={value}), and dfw does not give it; choose another model")
    reads, predicts = int(config.in_channels), int(config.out_channels)
    if reads not in ({predicts, predicts // 2} if variance else {(1 + beside) * predicts}):
        raise ValueError(f"its U-Net reads {reads} channels and predicts {predicts}{_KINDS[min(beside, 1)]}")
    return unet


def check_width(unet: Any, width: int) -> None:
    """Raises ValueError unless the U-Net reads texts of `width` numbers a token."""
    reads = unet.config.encoder_hid_dim or unet.config.cross_attention_dim
    if reads != width:
        raise ValueError(f"its U-Net reads texts of width {reads}, and its text encoders write {width}: two models are mixed")
