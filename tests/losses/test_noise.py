"""The noise of distillation losses: new in each step, to the bit as torch draws it, or the same for a whole run."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, ask, at, prior, views
from small_runs import PIXELS, config, trained

from dfw import LossSetup, Progress
from dfw.compose import compose
from dfw.errors import ContractError, PluginError
from dfw.runs.start import make_trainer
from dfw_losses.noise import Fixed, Gaussian
from dfw_losses.sds import SDS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fixed(seed: int = 0) -> Fixed:
    noise = Fixed(Fixed.Config())
    noise.initialise(seeded(seed))
    return noise


def bound(seed: int = 0, **options: object) -> SDS:
    """An SDS loss whose noise is drawn once, from `seed`."""
    loss = SDS(SDS.Config.model_validate({"noise": "fixed", **options}))
    loss.bind(LossSetup(None, None, None, seeded(seed)))
    return loss


def encoded(count: int = 3, side: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.zeros(count, 3, side, side, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaussian_has_the_bits_of_torchs_own_draw(dtype):
    """From the generator of the inputs, and from nothing else: twice is the same as two draws by hand."""
    noise, inputs, own = Gaussian(Gaussian.Config()), ask(views(3), prior(), seed=7), seeded(7)
    for _ in range(2):
        found = noise(encoded(dtype=dtype), inputs)
        assert torch.equal(found, torch.randn(3, 3, 2, 2, generator=own, dtype=dtype))
    before = torch.random.get_rng_state()
    noise(encoded(), inputs)
    assert torch.equal(before, torch.random.get_rng_state())
    assert noise.state_dict() == {}


def test_a_loss_draws_its_timesteps_and_then_the_noise():
    loss, own = SDS(SDS.Config()), seeded(3)
    query = loss.query(views(4), ask(views(4), prior(), seed=3))
    assert torch.equal(query.timestep, torch.randint(20, 981, (4,), generator=own))
    assert torch.equal(query.noise, torch.randn(4, 3, 2, 2, generator=own, dtype=torch.float64))


def test_fixed_is_drawn_once_for_a_space():
    noise, inputs = fixed(), ask(views(3), prior())
    first = noise(encoded(), inputs)
    assert noise(encoded(), inputs).data_ptr() == first.data_ptr()
    assert noise(encoded(dtype=torch.float32), inputs).dtype == torch.float32


def test_fixed_is_one_normal_picture_for_all_views_and_steps():
    noise = fixed()
    one = noise(encoded(3), ask(views(3), prior(), seed=1))
    other = noise(encoded(5), ask(views(5), prior(), seed=2, progress=Progress(50, 100)))
    assert all(torch.equal(view, one[0]) for view in (*one, *other))
    assert torch.equal(one[0], torch.randn(3, 2, 2, generator=seeded(int(noise.seed))).double())
    wide = noise(encoded(1, 64), ask(views(1), prior()))
    assert abs(float(wide.mean())) < 5 / wide.numel() ** 0.5
    assert abs(float(wide.var()) - 1) < 5 * (2 / wide.numel()) ** 0.5


def test_fixed_draws_once_and_moves_no_later_draw():
    """What comes after it from the step's generator is what would have come first."""
    noise, inputs = fixed(), ask(views(2), prior(), seed=4)
    noise(encoded(), inputs)
    assert torch.equal(torch.rand(3, generator=inputs.generator), torch.rand(3, generator=seeded(4)))


def test_fixed_differs_by_seed_and_comes_back_with_the_state():
    first, same, other = (fixed(seed)(encoded(), ask(views(3), prior())) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    restored = fixed(1)
    restored(encoded(), ask(views(3), prior()))  # asked before, as a preview might
    restored.load_state_dict(fixed(0).state_dict())
    assert torch.equal(restored(encoded(), ask(views(3), prior())), first)
    restored.initialise(seeded(1))
    assert torch.equal(restored(encoded(), ask(views(3), prior())), other)


def test_a_loss_with_fixed_noise_keeps_it_in_its_state():
    """The same at every step and for every view, whatever the generator; another loss gets it with the state."""
    loss, z = bound(), views(4)
    queries = [loss.query(z, ask(z, prior(), seed=seed, progress=Progress(seed, 10))) for seed in (0, 5)]
    assert torch.equal(queries[0].noise, queries[1].noise)
    assert all(torch.equal(view, queries[0].noise[0]) for view in queries[0].noise)
    assert not torch.equal(queries[0].timestep, queries[1].timestep)
    assert set(loss.state_dict()) == {"noise.seed"}
    restored = bound(9)
    assert not torch.equal(restored.query(z, ask(z, prior())).noise, queries[0].noise)
    restored.load_state_dict(loss.state_dict())
    assert torch.equal(restored.query(z, ask(z, prior())).noise, queries[0].noise)


@pytest.mark.parametrize("schedule", [None, FLOW])
def test_with_fixed_noise_and_timestep_a_step_is_a_formula(schedule):
    """w (eps_hat(alpha z + sigma eps) - eps) with the one eps: no draw is left, and the gradient is the same each time."""
    model, z, t = prior(schedule=schedule), views(2), 300
    loss = bound(guidance_scale=1, weighting="one", **at(t))
    found = [loss.residual(z, ask(z, model, seed=seed)) for seed in (0, 1)]
    assert torch.equal(*found)
    eps = torch.randn(3, 2, 2, generator=seeded(int(loss.noise.seed))).double()
    alpha, sigma = (part[t].double() for part in (model.schedule.alpha, model.schedule.sigma))
    predicted = model.predict(alpha * z + sigma * eps, torch.tensor([t, t]), model.encode_text(["y", "y"]))
    torch.testing.assert_close(found[0], predicted - eps)


def test_a_run_with_fixed_noise_resumes_to_the_same_bits(tmp_path):
    """Another seed gives other noise; the checkpoint holds what the run's own seed gave."""
    made = config(PIXELS, tmp_path, losses={"sds": {"guidance_scale": 1, "noise": "fixed"}})
    whole, records = trained(made)
    stopped = make_trainer(made, compose(made).build())
    stopped.train(lambda: stopped.step == 3, lambda record: None)
    again = make_trainer(made, compose(made).build(), resumed=True)
    again.restore(stopped.save(tmp_path / "checkpoints"))
    rest = []
    again.train(lambda: False, rest.append)
    assert [(r.loss, r.grad_norm) for r in rest] == [(r.loss, r.grad_norm) for r in records[3:]]
    for name, value in whole.geometry.state_dict().items():
        assert torch.equal(again.geometry.state_dict()[name], value)
    other, _ = trained(made.model_copy(update={"seed": 1}))
    assert int(other.losses["sds"].noise.seed) != int(whole.losses["sds"].noise.seed)


def test_a_noise_that_does_not_exist_is_named_with_its_path(tmp_path):
    with pytest.raises(PluginError, match=r"no noise named 'gausian' \(losses\.sds\.noise\.type\)\. Did you mean 'gaussian'\?"):
        compose(config(PIXELS, tmp_path, losses={"sds": {"noise": "gausian"}}))


def test_noise_of_another_shape_or_type_is_refused():
    class Flat(Gaussian):
        """One number a view."""

        def forward(self, encoded, inputs):
            return super().forward(encoded, inputs)[:, :1]

    loss, z = SDS(SDS.Config()), views(2)
    loss.noise = Flat(Flat.Config())
    with pytest.raises(ContractError, match=r"Flat breaks its contract: the noise has shape \(2, 1, 2, 2\), not .*\(2, 3"):
        loss.query(z, ask(z, prior()))
