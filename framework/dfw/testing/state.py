"""Checks of what a component keeps: a resumed run goes on with the same bits."""

from __future__ import annotations

from torch import Tensor, nn

from dfw.testing.compare import require_same
from dfw.testing.core import Core, Made


class StateChecks(Core[Made]):
    """For kinds whose components are torch modules."""

    def restore(self, made: Made, state: dict[str, Tensor]) -> None:
        """Puts a checkpoint's tensors into a new component, as a run does."""
        assert isinstance(made, nn.Module)
        made.load_state_dict(state)

    def restore_optimizers(self, used: Made, restored: Made) -> None:
        """Puts the state of the optimisers that a component steps itself into those of the restored one."""

    def test_state_dict_restores_behaviour(self) -> None:
        """The state of a used component, loaded into a new one, makes it behave the same, then and after more use."""
        used = self.fresh(1)
        assert isinstance(used, nn.Module)
        self._disturb(used.parameters())
        self.exercise(used)
        used.eval()
        state = {name: tensor.detach().cpu().clone() for name, tensor in used.state_dict().items()}
        restored = self.fresh(2)
        self.restore(restored, state)
        self.restore_optimizers(used, restored)
        tolerance = 0 if self.device == "cpu" else self.tolerance
        remedy = (
            "Register what changes as nn.Parameter or with register_buffer, and compute nothing from it only once in __init__"
        )
        promise = "the state dict is all that a component is"
        require_same(self.observe(used), self.observe(restored), tolerance, promise, remedy)
        for one in (used, restored):
            self.exercise(one)
        promise = "a run that was resumed goes on with the same bits"
        require_same(self.observe(used), self.observe(restored), tolerance, promise, remedy)
