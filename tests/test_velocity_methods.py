"""Solvers and velocity methods against the naive reference, and truths that they must meet."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import pytest
import reference_flow_methods as reference
import reference_pnp
import torch
from models import sd_scheduler
from torch import Tensor
from toy_model import FRAMES, WIDTH, ToyModel, ToyNetwork

from pnpvideo.loading.families import FAMILIES
from pnpvideo.models.batches import Batches
from pnpvideo.models.flow.qwen_image import QwenImage
from pnpvideo.models.network import Batch, InjectionLayers, Network
from pnpvideo.models.noise_schedule import NoiseSchedule, flow_schedule
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.models.stable_diffusion.schedule import make_schedule
from pnpvideo.models.stable_diffusion.unet import UNet, default_layers
from pnpvideo.options.edit_method import MethodName, SolverName, consistency, steering
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.denoise import denoise_latents
from pnpvideo.sampling.guidance import Guidance, Rescaled, Texts
from pnpvideo.sampling.invert import invert_latents, reconstruct_latents
from pnpvideo.sampling.noise import gaussian_noise
from pnpvideo.sampling.schedule import first_step
from pnpvideo.sampling.solvers import choose_solver
from pnpvideo.stages.cost import cost_of
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

STEPS, PIECES = 4, 2
SOLVERS: tuple[SolverName, ...] = get_args(SolverName)
OTHERS: tuple[MethodName, ...] = ("uniedit", "flowedit", "flowalign", "steerflow")
KINDS = ("flow", "epsilon", "v_prediction")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class Made:
    """A random network with its levels and texts, and the same network by hand."""

    network: Network
    layers: InjectionLayers
    schedule: NoiseSchedule
    net: reference.Net
    clean: Tensor
    width: int
    rows: int = 0
    scale_is_input: bool = False

    def predict(self, batch: Batch) -> Tensor:
        """Count what goes through the network."""
        self.rows += len(batch.latents)
        return type(self.network).predict(self.network, batch)

    @property
    def path(self) -> reference.Path:
        s = self.schedule
        return reference.Path(
            s.timesteps,
            [(level.signal, level.noise) for level in s.levels],
            [(m.timestep, (m.level.signal, m.level.noise)) for m in s.middles],
            s.clean_timestep,
            s.prediction_type,
        )

    def text(self, seed: int) -> PromptEmbeddings:
        text = PromptEmbeddings(hidden=draw(100 + seed, 1, 3, self.width))
        return text.with_guidance(1.0) if self.scale_is_input else text

    def texts(self, seed: int) -> dict[str, PromptEmbeddings]:
        """Those of one prompt, by what they are for, as the reference takes them."""
        return {
            "source": self.text(0),
            "target": self.text(seed),
            "negative": self.text(10 + seed),
            "empty": self.text(1),
        }

    def invert(self, solver: SolverName = "ddim", *, exact: bool = False) -> Tensor:
        return invert_latents(
            self.network,
            self.schedule,
            self.clean,
            self.text(0),
            solver=choose_solver(1, solver, exact=exact),
            batches=Batches(2),
        )

    def sample(
        self,
        trajectory: Tensor,
        targets: tuple[int, ...] = (2, 3),
        *,
        batch_size: int = 2,
        resume: DenoisingState | None = None,
        states: list[DenoisingState] | None = None,
        expected: list[Tensor] | None = None,
        rescaled: Rescaled | None = None,
        packing: int = 1,
        **values: Any,
    ) -> list[Tensor]:
        options = PnPOptions(**{"steps": STEPS, "tau_f": 0.0, "tau_a": 0.0, **values})
        steps, generator = [], torch.Generator().manual_seed(5)
        start = trajectory[-1 if options.edits_clean else first_step(options)]
        start = start.expand(len(targets), *start.shape)
        velocities = torch.zeros_like(start) if options.solver == "fireflow" else None

        def keep(step: int, timestep: float, latents: Tensor, part: range) -> Tensor:
            steps.append(latents.clone())
            if states is not None:
                kept = None if velocities is None else velocities.clone()
                now = generator.get_state()
                states.append(
                    DenoisingState(
                        steps=step + 1, latents=latents.clone(), generator=now, velocities=kept
                    )
                )
            return latents

        texts = Texts(
            source=self.text(0),
            targets=concatenate([self.text(seed) for seed in targets]),
            negatives=concatenate([self.text(10 + seed) for seed in targets]),
            unconditional=self.text(1),
        )
        kept = Trajectory(latents=LatentMemory(trajectory), timesteps=self.schedule.timesteps)
        denoise_latents(
            self.network,
            self.layers,
            self.schedule,
            kept,
            start,
            Guidance(texts, options, *() if rescaled is None else (rescaled,)),
            options,
            generator,
            batch_size=batch_size,
            packing=packing,
            resume=resume,
            velocities=velocities,
            after_step=keep,
            on_prediction=None
            if expected is None
            else lambda _, clean: expected.append(clean.clone()),
        )
        return steps

    def noises(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(5)
        shape = tuple(self.clean.shape[1:])
        return [gaussian_noise(shape, generator, self.clean) for _ in range(STEPS)]


@cache
def smooth_unet(kind: str) -> Any:
    """A random one that is less rough, as it would multiply rounding."""
    unet = reference_pnp.tiny_unet(kind, layers_per_block=1)  # type: ignore[arg-type]
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.05)
    return unet


def make(kind: str) -> Made:
    if kind == "flow":
        net = ToyModel().net.double()
        sigmas = [1 - (i / STEPS) ** 1.2 for i in range(STEPS + 1)]
        clean = draw(7, PIECES, 3 * FRAMES, 6, 8)

        def by_hand(x: Tensor, t: float, text: Any) -> Tensor:
            return net(x[None], t, text.hidden.mean(1))[0].detach()

        network, layers = ToyNetwork(net), ToyModel.layers
        made = Made(network, layers, flow_schedule(sigmas), by_hand, clean, WIDTH)  # type: ignore[arg-type]
    else:
        unet = smooth_unet(kind)
        schedule = make_schedule(sd_scheduler(kind).config, STEPS, STEPS)

        def of_unet(x: Tensor, t: float, text: Any) -> Tensor:
            return unet(x[None], t, text.hidden)[0][0].detach()

        made = Made(
            UNet(unet, 8), default_layers(unet), schedule, of_unet, draw(7, PIECES, 4, 8, 8), 12
        )
    made.network.predict = made.predict  # type: ignore[method-assign]
    return made


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> Made:
    return make(request.param)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-10) -> None:
    assert ((ours - theirs).norm() / theirs.norm()).item() < tolerance


@torch.no_grad()
def test_every_solver_equals_the_reference(made: Made) -> None:
    for solver in SOLVERS:
        for exact in (False, True) if solver in ("ddim", "lookahead") else (False,):
            ours = made.invert(solver, exact=exact)
            last, text = made.clean[-1], made.text(0)
            theirs = reference.invert(made.net, made.path, last, text, solver, exact)
            for mine, other in zip(ours, theirs, strict=True):
                assert_close(mine[-1], other)


@torch.no_grad()
@pytest.mark.parametrize("solver", ["midpoint", "fireflow"])
def test_the_way_back_equals_the_reference(made: Made, solver: SolverName) -> None:
    """By itself, and as method inject takes it without injecting anything."""
    trajectory, text = made.invert(solver), made.text(0)
    back = reconstruct_latents(
        made.network,
        made.schedule,
        trajectory[0],
        text,
        solver=choose_solver(1, solver),
        batches=Batches(2),
    )
    sampled = made.sample(trajectory, (0,), solver=solver, guidance_scale=1.0)
    theirs = reference.sample_by_middles(made.net, made.path, trajectory[0, -1], text, solver)
    for mine, also, other in zip(back[1:], sampled, theirs, strict=True):
        assert_close(mine[-1], other)
        assert_close(also[0, -1], other)


@torch.no_grad()
@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("uniedit", {"strength": 0.6, "guidance_scale": 5.0}),
        ("uniedit", {"strength": 1.0, "exact_source": True, "solver": "lookahead"}),
        ("flowedit", {"strength": 0.8, "guidance_scale": 3.0}),
        ("flowedit", {"guidance_scale": 3.0, "source_guidance": 1.5}),
        ("flowalign", {"strength": 0.3, "guidance_scale": 4.0}),
        ("steerflow", {"strength": 0.4, "guidance_scale": 2.0}),
        ("steerflow", {"guidance_scale": 1.0, "exact_source": True}),
        ("inject", {"guidance_scale": 2.0, "exact_source": True}),
    ],
)
def test_every_step_of_a_method_equals_the_reference(
    made: Made, method: MethodName, values: dict[str, Any]
) -> None:
    options = PnPOptions(steps=STEPS, method=method, **values)
    trajectory = made.invert(options.solver, exact=options.exact_source)
    ours = made.sample(trajectory, method=method, **values)
    strength = 0.5 if method == "inject" else options.own_strength
    for prompt, seed in enumerate((2, 3)):
        if prompt == 0 and made.schedule.prediction_type != "flow":
            continue  # The second is enough, as a UNet takes longer.
        theirs = reference.edit(
            made.net,
            made.path,
            list(trajectory[:, -1]),
            made.texts(seed),
            method,
            first=first_step(options),
            scale=options.guidance_scale,
            source_scale=options.source_guidance,
            zeta=consistency(strength),
            gamma=steering(strength),
            noises=made.noises(),
            shift=options.solver if options.exact_source else None,
        )
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine[prompt, -1], other)


@torch.no_grad()
@pytest.mark.parametrize("source_guidance", [1.0, 2.5])
def test_tokens_keep_their_norm_on_both_sides(source_guidance: float) -> None:
    """With Qwen-Image, whose pipeline scales guided predictions, that of the source's text too."""
    made = make("flow")
    values = {"guidance_scale": 4.0, "source_guidance": source_guidance}
    trajectory, rescaled = made.invert(), QwenImage().rescaled
    ours = made.sample(trajectory, method="flowedit", rescaled=rescaled, **values)
    theirs = [
        reference.edit(
            made.net,
            made.path,
            list(trajectory[:, -1]),
            made.texts(2),
            "flowedit",
            first=STEPS - len(ours),
            scale=4.0,
            source_scale=source_guidance,
            noises=made.noises(),
            kept=kept,
        )
        for kept in (2, 0)
    ]
    for mine, other, without in zip(ours, *theirs, strict=True):
        assert_close(mine[0, -1], other)
        assert (mine[0, -1] - without).norm() > 1e-3 * without.norm()


@torch.no_grad()
def test_a_mask_of_packed_latents_is_one_for_each_token() -> None:
    made, sides = make("flow"), (2, 0)
    trajectory = made.invert()
    ours = made.sample(trajectory, method="uniedit", strength=1.0, packing=2)
    theirs = [
        reference.edit(
            made.net,
            made.path,
            list(trajectory[:, -1]),
            made.texts(3),
            "uniedit",
            first=0,
            scale=PnPOptions(method="uniedit").guidance_scale,
            packed=side,
        )
        for side in sides
    ]
    for mine, other, by_latents in zip(ours, *theirs, strict=True):
        assert_close(mine[1, -1], other)
        assert (mine[1, -1] - by_latents).norm() > 1e-3 * by_latents.norm()


def test_which_models_have_packed_latents() -> None:
    """Those whose pipelines hold tokens of 2 x 2 latents, as FLUX.2's latents are tokens here."""
    found = {name: family.packing for name, family in FAMILIES.items()}
    packed = {name for name, packing in found.items() if packing == 2}
    assert packed == {"FluxPipeline", "QwenImagePipeline"}
    assert set(found.values()) == {1, 2}


@torch.no_grad()
@pytest.mark.parametrize("solver", ["ddim", "lookahead"])
def test_with_an_exact_source_its_own_text_returns_it(made: Made, solver: SolverName) -> None:
    trajectory = made.invert(solver, exact=True)
    plain = {"guidance_scale": 1.0, "exact_source": True, "solver": solver}
    injected = {**plain, "tau_f": 1.0, "tau_a": 1.0}
    for values in (plain, injected, {**plain, "method": "uniedit", "strength": 1.0}):
        steps = made.sample(trajectory, (0,), **values)
        for level, mine in enumerate(steps, 1):
            assert_close(mine[0], trajectory[level], 1e-13)
    # Without, they part.
    off = made.sample(trajectory, (0,), **{**plain, "exact_source": False})[-1]
    assert (off[0] - trajectory[-1]).norm() / trajectory[-1].norm() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("method", OTHERS)
def test_a_methods_truths(kind: str, method: MethodName) -> None:
    made = make(kind)
    trajectory = made.invert()
    if method in ("flowedit", "flowalign"):
        # The source's text on both sides changes nothing. Noise is drawn, and makes no difference.
        own = made.sample(trajectory, (0,), method=method, guidance_scale=1.0)[-1][0]
        assert_close(own, made.clean, 1e-14)
    # At strength 0 no step is taken; what sampling starts from is the source.
    assert made.sample(trajectory, method=method, strength=0.0) == []
    options = PnPOptions(steps=STEPS, method=method, strength=0.0)
    assert first_step(options) == STEPS
    # Batches change nothing, and a run that goes on from its state ends as the whole.
    states: list[DenoisingState] = []
    expected: list[Tensor] = []
    whole = made.sample(trajectory, method=method, states=states, expected=expected)
    alone = made.sample(trajectory, method=method, batch_size=1)
    assert_close(alone[-1], whole[-1], 1e-11)
    rest = made.sample(trajectory, method=method, resume=states[-2])
    assert torch.equal(rest[-1], whole[-1])
    # A step to the clean end leads to the clean latents that it expects.
    assert len(expected) == len(whole)
    if made.schedule.levels[-1].noise == 0:
        assert_close(expected[-1], whole[-1])


@torch.no_grad()
def test_fireflow_goes_on_bit_for_bit() -> None:
    made = make("epsilon")
    trajectory, states = made.invert("fireflow"), list[DenoisingState]()
    shares = {"solver": "fireflow", "tau_f": 0.8, "tau_a": 0.5}
    whole = made.sample(trajectory, states=states, **shares)
    rest = made.sample(trajectory, resume=states[1], **shares)
    assert torch.equal(rest[-1], whole[-1])


@torch.no_grad()
@pytest.mark.parametrize(
    "values",
    [
        *({"method": method} for method in OTHERS),
        *({"method": method, "guidance_scale": 1.0} for method in ("flowedit", "steerflow")),
        {"method": "flowedit", "source_guidance": 2.0},
        {"tau_a": 1.0, "solver": "midpoint"},
        {"tau_a": 1.0, "solver": "fireflow"},
        {"tau_a": 1.0, "exact_source": True, "solver": "lookahead"},
    ],
)
def test_the_cost_is_what_goes_through_the_network(values: dict[str, Any]) -> None:
    made = make("flow")
    options = PnPOptions(**{"steps": STEPS, "tau_f": 0.0, "tau_a": 0.0, **values})
    cost, piece_count = cost_of(options, 2, generated=False), len(made.clean)
    trajectory = made.invert(options.solver, exact=options.exact_source)
    if options.inverts:
        assert made.rows == cost.source * piece_count
    made.rows = 0
    made.sample(trajectory, **values)
    assert made.rows == cost.sampling * piece_count


class TwoGaussians:
    """The best network for data N(m, c^2), where the text is m. It is given 1000 s."""

    device = torch.device("cpu")
    batch = None
    spread = 0.5

    def predict(self, batch: Batch) -> Tensor:
        s, means = batch.timestep / 1000, batch.texts.hidden[:, 0, 0]
        mean = means.repeat_interleave(batch.piece_count)[:, None, None, None]
        variance = (1 - s) ** 2 * self.spread**2 + s**2
        share = (s - (1 - s) * self.spread**2) / variance
        return share * (batch.latents - (1 - s) * mean) - mean


def flowedit_between_gaussians(clean: Tensor, sigmas: list[float], strength: float) -> Tensor:
    """From the mean 0.3 to -0.9."""

    def text(mean: float) -> PromptEmbeddings:
        return PromptEmbeddings(hidden=torch.full((1, 1, 1), mean, dtype=torch.float64))

    options = PnPOptions(
        steps=len(sigmas) - 1, method="flowedit", strength=strength, guidance_scale=1.0
    )
    return denoise_latents(
        TwoGaussians(),  # type: ignore[arg-type]
        InjectionLayers(features=(), attentions=(), shared=()),
        flow_schedule(sigmas),
        Trajectory(latents=LatentMemory(clean[None]), timesteps=()),
        clean[None],
        Guidance(
            Texts(source=text(0.3), targets=text(-0.9), negatives=text(0), unconditional=text(0)),
            options,
        ),
        options,
        torch.Generator().manual_seed(0),
        batch_size=2,
    )[0]


@pytest.mark.parametrize("steps", [1, 7])
def test_flowedit_between_gaussians_is_exact(steps: int) -> None:
    """From noise alone it moves the source by the difference of the means, whatever is drawn."""
    clean = 0.3 + 0.5 * draw(3, 2, 1, 4, 5)
    sigmas = [1 - (i / steps) ** 2 for i in range(steps + 1)]
    result = flowedit_between_gaussians(clean, sigmas, 1.0)
    torch.testing.assert_close(result, clean - 1.2, rtol=0, atol=1e-14)


@pytest.mark.parametrize("first", [0.75, 0.5])
def test_flowedit_from_a_lower_level_goes_a_part_of_the_way(first: float) -> None:
    """The more steps it takes, the nearer to the exact share."""
    clean, spread = 0.3 + 0.5 * draw(3, 2, 1, 4, 5), TwoGaussians.spread
    share = 1 - (1 - first) * spread / ((1 - first) ** 2 * spread**2 + first**2) ** 0.5
    errors = []
    for steps in (40, 80, 160):
        sigmas = [1 - i / steps for i in range(steps + 1)]
        result = flowedit_between_gaussians(clean, sigmas, first)
        errors.append(float((result - (clean - 1.2 * share)).abs().max()))
    assert errors[-1] < 0.01
    assert all(1.8 < more / less < 2.2 for more, less in pairwise(errors))


def test_strength_turns_what_the_papers_turn() -> None:
    def of(strength: float | None, method: MethodName = "inject") -> PnPOptions:
        return PnPOptions(method=method, strength=strength)

    assert of(None).thresholds == (0.8, 0.5)
    assert [of(x).thresholds for x in (0.0, 0.5, 1.0)] == [(1, 1), (0.8, 0.5), (0, 0)]
    for method, first in {"uniedit": 20, "flowedit": 15, "flowalign": 0, "steerflow": 0}.items():
        assert first_step(of(None, method)) == first  # type: ignore[arg-type]
        assert first_step(of(0.0, method)) == 50  # type: ignore[arg-type]
        assert first_step(of(1.0, method)) == 0  # type: ignore[arg-type]
    assert consistency(0.5) == pytest.approx(0.01)
    assert consistency(0.75) == pytest.approx(0.001, rel=0.2)
    assert [consistency(x) for x in (0.01, 1.0)] == [1.0, 0.0]
    assert [steering(x) for x in (0.0, 0.5, 1.0)] == [0.0, 5.0, float("inf")]


@pytest.mark.parametrize(
    ("method", "seen"),
    [
        ("uniedit", (1.0, 1.0)),
        ("flowedit", (1.5, 4.0)),
        ("flowalign", (1.0, 1.0, 1.0)),
        ("steerflow", (4.0,)),
    ],
)
def test_guidance_that_a_network_takes_as_an_input(
    method: MethodName, seen: tuple[float, ...]
) -> None:
    """Each row has its own scale, there are no negative texts, and no scale is applied twice."""
    made, guidances = make("flow"), list[tuple[float, ...] | None]()
    made.scale_is_input = True
    predict = made.predict

    def watch(batch: Batch) -> Tensor:
        guidances.append(batch.texts.guidance)
        return predict(batch)

    made.network.predict = watch  # type: ignore[method-assign]
    values: dict[str, Any] = {"guidance_scale": 4.0, "strength": 1.0}
    if method == "flowedit":
        values["source_guidance"] = 1.5
    made.sample(draw(1, STEPS + 1, *made.clean.shape), (2,), method=method, **values)
    assert guidances == [seen] * STEPS
