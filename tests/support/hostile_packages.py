"""Packages that misbehave, as files: what a stranger might install beside the framework."""

from __future__ import annotations

from pathlib import Path

from fake_packages import LOSS, write_package

BROKEN = {  # distribution -> (source of its module, or None for a module that is not there; what the message says)
    "acme-raises": ("raise RuntimeError('no licence found')", "RuntimeError: no licence found"),
    "acme-exits": ("import sys\nsys.exit(0)", "SystemExit: 0"),
    "acme-syntax": ("def f(:", "SyntaxError"),
    "acme-empty": ("x = 1", "AttributeError"),
    "acme-missing": (None, "ModuleNotFoundError: No module named 'acme_missing'"),
    "acme-wrong-kind": ("from dfw import Renderer as Thing", "not a subclass of dfw.Loss"),
    "acme-abstract": ("from dfw import Loss\nclass Thing(Loss): ...", "does not implement forward"),
    "acme-no-config": (
        "from dfw import Loss\nclass Thing(Loss):\n    Config = dict\n    def forward(self, inputs): ...",
        "has no Config derived from dfw.ComponentConfig",
    ),
    "acme-constructor": (
        "from dfw import Loss\nclass Thing(Loss):\n    def __init__(self, config): raise OSError('no weights')\n"
        "    def forward(self, inputs): ...",
        "failed to start: OSError: no weights",
    ),
    "acme-no-super": (
        "from dfw import Loss\nclass Thing(Loss):\n    def __init__(self, config): self.config = config\n"
        "    def forward(self, inputs): ...",
        "its __init__ does not call super().__init__()",
    ),
    "acme-arguments": (
        "from dfw import Loss\nclass Thing(Loss):\n    def __init__(self, config): ...\n    def forward(self, inputs): ...\n"
        "    def end_step(self): ...",
        "has end_step(self), and is called as end_step(self, inputs); take the same arguments",
    ),
    "acme-mute": (
        "from dfw import Loss\nclass Thing(Loss):\n    @classmethod\n    def requires(cls, config): return 'image'\n"
        "    def __init__(self, config): ...\n    def forward(self, inputs): ...",
        "cannot say what it requires: TypeError: it gave 'image', not a set of words",
    ),
}


LIARS = Path(__file__).with_name("liars.py").read_text(encoding="utf-8")
"""Components that break their contract, each made from an honest one."""
LIES = [  # kind, class, exit code, what the message says
    ("renderer", "RenderShape", 2, "opacity has shape (1, 8, 8, 1), not colour's (B, H, W) = (1, 8, 8)"),
    ("renderer", "RenderBatch", 2, "colour has shape (1, 8, 8, 3), not (B, H, W, 3) = (2, any, any, 3)"),
    ("renderer", "RenderNan", 4, "colour is nan in 192 of 192 places before the first update"),
    ("renderer", "RenderDetached", 2, "neither colour nor opacity carries a gradient to geometry (dreamfw/image"),
    ("renderer", "RenderDouble", 2, "colour is of torch.float64, not torch.float32"),
    ("renderer", "RenderDict", 2, "it gave a dict, not a RenderOutput"),
    ("renderer", "RenderSamples", 2, "samples is a dict, not a RaySamples"),
    ("renderer", "RenderCrash", 3, "failed at step 0: ValueError: two lines; the traceback is in "),
    ("renderer", "RenderExit", 3, "SystemExit: 0"),
    ("renderer", "RenderBackward", 3, "RuntimeError: no backward kernel"),
    ("geometry", "FieldShape", 2, "density has shape (2, 3, 1), not the points' (...) = (2, 3)"),
    ("geometry", "FieldNan", 4, "density is nan in 6 of 6 places"),
    ("geometry", "FieldDetached", 2, "neither density nor albedo carries a gradient to its parameters"),
    ("geometry", "FieldDouble", 2, "albedo is of torch.float64, not torch.float32"),
    ("geometry", "FieldNegative", 2, "density is -16.7"),
    ("geometry", "FieldRadius", 2, "radius is tensor(1.), not a number of world units above 0"),
    ("geometry", "FieldGroups", 2, "parameter_groups() gave a list, not a dict of name to parameters"),
    ("geometry", "FieldNothing", 2, "parameter_groups() gave 'size': a NoneType, not a name and parameters"),
    ("geometry", "FieldMembers", 2, "group 'size' of parameter_groups() holds a Tensor, not nn.Parameters alone"),
    (
        "guidance",
        "GuidanceShape",
        2,
        "predict's result has shape (2, 1, 8, 8), not the noisy input's (B, C, h, w) = (2, 3, 8, 8)",
    ),
    ("guidance", "GuidanceNan", 4, "predict's result is nan in 384 of 384 places"),
    ("guidance", "GuidanceDetached", 2, "encode_image's result carries no gradient to the image"),
    ("guidance", "GuidanceDouble", 2, "predict's result is of torch.float64, not torch.float32"),
    ("guidance", "GuidanceText", 2, "encode_text gave an embedding of shape (1, 1, 1) for 2 texts"),
    ("guidance", "GuidanceList", 2, "encode_text gave a list as embedding, not a tensor"),
    ("guidance", "GuidanceWords", 2, "self.resolution is '8', not a whole number above 0"),
    ("guidance", "GuidanceSilent", 2, "it does not set self.channels"),
    ("guidance", "GuidanceCrash", 3, "RuntimeError: "),
    ("loss", "LossShape", 2, "the loss is of shape (2, 8, 8, 3), torch.float32, on cpu, not a floating scalar ()"),
    ("loss", "LossFloat", 2, "the loss is a float, not a scalar tensor"),
    ("loss", "LossDetached", 2, "the loss carries no gradient to the render"),
    ("loss", "LossInteger", 2, "torch.int64"),
    ("loss", "LossNan", 4, "the loss is nan before the first update"),
    ("loss", "LossLateNan", 4, "losses.tested is nan since step 2, given by losses.tested"),
    ("loss", "LossCrash", 3, "AttributeError: 'NoneType' object has no attribute 'mean'"),
]
HONEST = [("renderer", "Plane"), ("geometry", "Ball"), ("guidance", "Grey"), ("loss", "Mean")]
"""What the liars are made from: these must run, or the tests of the liars say nothing."""


def write_broken(folder: Path) -> None:
    """Installs every package that cannot be used, each offering a loss and, some of them, a listener; and two that clash."""
    for distribution, (source, _) in BROKEN.items():
        module = distribution.replace("-", "_")
        points = f"[dfw.loss]\n{distribution} = {module}:Thing\n"
        if distribution in ("acme-raises", "acme-exits", "acme-missing"):
            points += f"[dfw]\nlistener = {module}\n"
        write_package(folder, distribution, "0.1", points, {} if source is None else {module: source})
    write_package(
        folder, "acme-squatter", "6.6", "[dfw.loss]\nopacity = acme_squatter:Glow\n[dfw.renderer]\nplane = nothing:At\n"
    )
    (folder / "acme_squatter.py").write_text(LOSS.format(name="Glow"), encoding="utf-8")
    for number in (1, 2):
        name = f"acme-twin-{number}"
        write_package(folder, name, f"{number}.0", f"[dfw.loss]\ntwin = acme_twin_{number}:Twin\n")
        (folder / f"acme_twin_{number}.py").write_text(LOSS.format(name="Twin"), encoding="utf-8")


def write_liars(folder: Path) -> None:
    """Installs `acme-liars` 2.1: components that load, and break their contract when they work."""
    groups: dict[str, list[str]] = {}
    for kind, cls in [(kind, cls) for kind, cls, *_ in LIES] + HONEST + [("geometry", "FieldFrozen")]:
        groups.setdefault(kind, []).append(f"{cls} = acme_liars:{cls}")
    points = "".join(f"[dfw.{kind}]\n" + "\n".join(lines) + "\n" for kind, lines in groups.items())
    write_package(folder, "acme-liars", "2.1", points, {"acme_liars": LIARS})
