"""Parity with the naive reference in float64: inversion, injection, guidance, several prompts."""

from typing import Any

import pytest
import reference_pnp as reference
import torch
from models import sd_scheduler
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import InjectionLayers
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.models.stable_diffusion.schedule import make_schedule
from pnpvideo.models.stable_diffusion.unet import UNet, default_layers
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling import reading
from pnpvideo.sampling.denoise import denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.invert import invert_latents, reconstruct_latents
from pnpvideo.sampling.noise import gaussian_noise
from pnpvideo.sampling.passes import InjectedBatch
from pnpvideo.sampling.schedule import clean_of_step, ddim_step, first_steps, step_at
from pnpvideo.sampling.solvers import choose_solver
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

STEPS = 5
SIZE = (128, 64)
"""Of the latents below, with 8 pixels to a latent."""


def schedule_of(prediction: str, inversion_steps: int = STEPS) -> NoiseSchedule:
    return make_schedule(sd_scheduler(prediction).config, STEPS, inversion_steps)


def random_text(seed: int, pooled: bool = False) -> PromptEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, 6, 12, generator=generator, dtype=torch.float64)
    if not pooled:
        return PromptEmbeddings(hidden=hidden)
    vector = torch.randn(1, 12, generator=generator, dtype=torch.float64)
    return PromptEmbeddings(hidden=hidden, pooled=vector)


def reference_text(text: PromptEmbeddings) -> Any:
    if text.pooled is None:
        return text.hidden
    ids = torch.tensor([[SIZE[1], SIZE[0], 0, 0, SIZE[1], SIZE[0]]], dtype=torch.float64)
    return text.hidden, {"text_embeds": text.pooled, "time_ids": ids}


def random_latents(frames: int, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, 4, 8, 16, generator=generator, dtype=torch.float64)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-8) -> None:
    assert ((ours - theirs).norm() / theirs.norm()).item() < tolerance


class Run:
    """Our inversion and sampling of one random model, with every step recorded."""

    def __init__(
        self,
        prediction: str = "epsilon",
        frames: int = 1,
        *,
        sdxl: bool = False,
        layers_per_block: int = 1,
    ) -> None:
        self.prediction = prediction
        self.unet = (
            reference.tiny_sdxl_unet()
            if sdxl
            else reference.tiny_unet(prediction, layers_per_block=layers_per_block)
        )
        self.schedule = schedule_of(prediction)
        self.network = self.make_network()
        self.alphas = sd_scheduler(prediction).alphas_cumprod.double()
        self.source, self.empty, self.negative, *self.targets = (
            random_text(seed, pooled=sdxl) for seed in range(5)
        )
        self.latents = random_latents(frames)
        self.trajectory = self.as_trajectory(self.invert(batch_size=2))

    def make_network(self) -> UNet:
        return UNet(self.unet, 8)

    def invert(
        self, schedule: NoiseSchedule | None = None, *, iterations: int = 1, batch_size: int = 1
    ) -> Tensor:
        return invert_latents(
            self.network,
            schedule or self.schedule,
            self.latents,
            self.source,
            solver=choose_solver(iterations),
            batches=Batches(batch_size),
        )

    def smooth(self) -> None:
        """Make the network less rough, as a trained one is: a random one multiplies rounding."""
        with torch.no_grad():
            self.unet.conv_out.weight.mul_(0.01)
        self.trajectory = self.as_trajectory(self.invert(batch_size=2))

    def as_trajectory(self, latents: Tensor) -> Trajectory:
        return Trajectory(latents=LatentMemory(latents), timesteps=self.schedule.timesteps)

    def sample(
        self,
        *,
        prompts: int = 1,
        batch_size: int = 2,
        seed: int = 3,
        trajectory: Trajectory | None = None,
        targets: list[PromptEmbeddings] | None = None,
        resume: DenoisingState | None = None,
        predicted: list[Tensor] | None = None,
        pieces_at_once: int | None = None,
        states: list[DenoisingState] | None = None,
        **options: Any,
    ) -> list[Tensor]:
        trajectory = trajectory or self.trajectory
        targets = targets or self.targets[:prompts]
        steps: list[Tensor] = []

        def record(step: int, timestep: float, latents: Tensor, part: range) -> Tensor:
            steps.append(latents.clone())
            if states is not None:
                states.append(
                    DenoisingState(
                        steps=step + 1,
                        latents=latents.clone(),
                        generator=generator.get_state(),
                        part=part,
                    )
                )
            return latents

        chosen = PnPOptions(steps=STEPS, **options)
        generator = torch.Generator().manual_seed(seed)
        start = trajectory.latents[step_at(chosen.start_level, STEPS), :]
        texts = Texts(
            source=self.source,
            targets=concatenate(targets),
            negatives=concatenate([self.negative] * len(targets)),
            unconditional=self.empty,
        )
        denoise_latents(
            self.network,
            default_layers(self.unet),
            self.schedule,
            trajectory,
            start.expand(len(targets), *start.shape),
            Guidance(texts, chosen),
            chosen,
            generator,
            batch_size=batch_size,
            pieces_at_once=pieces_at_once,
            resume=resume,
            after_step=record,
            on_prediction=None if predicted is None else lambda _, x: predicted.append(x.clone()),
        )
        return steps

    def reference_steps(
        self,
        frame: int,
        prompt: int = 0,
        scheduled: bool = False,
        control: reference.Control | None = None,
        **settings: Any,
    ) -> list[Tensor]:
        one = slice(frame, frame + 1)
        stored = [self.trajectory.latents[level, one] for level in range(STEPS + 1)]
        naive = reference.ddim_invert(
            self.unet,
            self.latents[frame : frame + 1],
            reference_text(self.source),
            STEPS,
            self.prediction,
            alphas=self.alphas,
            control=control,
        )
        for i, timestep in enumerate(self.schedule.timesteps):
            assert_close(stored[i], naive[timestep])
            # From here on both read the same bits: the random network amplifies rounding.
            naive[timestep] = stored[i]
        return reference.pnp_sample(
            self.unet,
            naive,
            naive[self.schedule.timesteps[settings.get("first", 0)]],
            reference_text(self.source),
            reference_text(self.targets[prompt]),
            reference_text(self.negative),
            reference_text(self.empty) if scheduled else None,
            steps=STEPS,
            prediction=self.prediction,
            alphas=self.alphas,
            control=control,
            **settings,
        )


def test_what_a_step_expects_does_not_depend_on_its_own_noise() -> None:
    run = Run(frames=2)
    start = run.trajectory.noise.expand(2, *run.trajectory.noise.shape)
    found: dict[float, list[Tensor]] = {0.0: [], 1.0: []}
    steps = {
        eta: run.sample(prompts=2, eta=eta, predicted=predicted) for eta, predicted in found.items()
    }
    for i, (clean, after) in enumerate(zip(found[0.0], steps[0.0], strict=True)):
        levels = run.schedule.levels[i : i + 2]
        assert_close(clean, clean_of_step([start, *steps[0.0]][i], after, *levels, eta=0))
    # With eta, as from the same latents without it.
    for step in range(STEPS):
        latents = [start, *steps[1.0]][step]
        generator = torch.Generator().manual_seed(3).get_state()
        resume = DenoisingState(steps=step, latents=latents, generator=generator)
        alone: list[Tensor] = []
        run.sample(prompts=2, resume=resume, predicted=alone)
        assert torch.equal(alone[0], found[1.0][step])


@pytest.mark.parametrize(
    ("prediction", "frames", "schedule"),
    [
        ("epsilon", 3, None),
        ("v_prediction", 1, None),
        ("v_prediction", 2, "constant"),
        ("epsilon", 1, "linear"),
        ("epsilon", 2, "exp"),
    ],
)
def test_every_step_equals_the_reference(
    prediction: str, frames: int, schedule: str | None
) -> None:
    run = Run(prediction, frames, layers_per_block=2)
    ours = run.sample(
        guidance_scale=7.5, tau_f=0.8, tau_a=0.5, negative_alpha=0.9, negative_schedule=schedule
    )
    theirs = run.reference_steps(
        frames - 1,
        scheduled=schedule is not None,
        guidance_scale=7.5,
        tau_f=0.8,
        tau_a=0.5,
        alpha=0.9,
        schedule=schedule or "constant",
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine[0, -1], other[0])


# A level, and the step of five that it stands for.
LEVELS = [(1.0, 0), (0.9, 0), (0.8, 1), (0.5, 2), (0.2, 4), (0.0, 4)]


@pytest.mark.parametrize(
    ("level", "step", "tau_f", "tau_a"),
    [
        (*at, *taus)
        for at, taus in zip(
            LEVELS,
            [(0.8, 0.5), (1.0, 1.0), (0.8, 0.5), (0.0, 0.6), (0.6, 0.0), (1.0, 1.0)],
            strict=True,
        )
    ],
)
def test_features_of_a_fixed_level_equal_the_reference(
    level: float, step: int, tau_f: float, tau_a: float
) -> None:
    run = Run("v_prediction", frames=2)
    run.smooth()
    shares: dict[str, Any] = {"tau_f": tau_f, "tau_a": tau_a}
    ours = run.sample(feature_level=level, guidance_scale=3.0, **shares)
    theirs = run.reference_steps(1, feature_step=step, guidance_scale=3.0, **shares)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine[0, 1], other[0], 1e-10)


@pytest.mark.parametrize(("level", "first"), LEVELS)
def test_a_later_start_equals_the_reference(level: float, first: int) -> None:
    run = Run(frames=2)
    run.smooth()
    ours = run.sample(start_level=level, feature_level=0.4)
    shares = {"guidance_scale": 7.5, "tau_f": 0.8, "tau_a": 0.5}
    theirs = run.reference_steps(1, feature_step=3, first=first, **shares)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine[0, 1], other[0], 1e-10)


@pytest.mark.parametrize("sharing", ["none", "extended", "propagate"])
def test_kept_readings_change_nothing(sharing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(frames=4)
    run.smooth()
    shares: dict[str, Any] = {
        "feature_level": 0.4,
        "attention_sharing": sharing,
        "keyframe_every": 2,
        "tau_a": 1.0,
    }
    ours = run.sample(prompts=2, batch_size=4, **shares)
    # A share of the free memory: nothing, some tens of bytes (too little for a frame), enough.
    for room, batch_size in ((0.0, 3), (1e-9, 1), (1.0, 3)):
        monkeypatch.setattr(reading, "_SHARE", room)
        other = run.sample(prompts=2, batch_size=batch_size, **shares)
        assert_close(other[-1], ours[-1], 1e-12)


def test_a_few_pieces_at_once_end_as_all_do() -> None:
    run = Run(frames=3)
    run.smooth()
    whole = run.sample(prompts=2, feature_level=0.4)[-1]
    states: list[DenoisingState] = []
    assert_close(
        run.sample(prompts=2, feature_level=0.4, pieces_at_once=2, states=states)[-1], whole
    )
    assert [state.under_way for state in states[::STEPS]] == [range(2), range(2, 3)]
    # Within a part, at its end, and within the last one.
    for number, at_once in ((1, None), (STEPS - 1, 1), (STEPS + 2, 3)):
        resume = states[number]
        rest = run.sample(prompts=2, feature_level=0.4, pieces_at_once=at_once, resume=resume)
        assert_close(rest[-1], whole, 1e-12)


def test_sdxl_equals_the_reference() -> None:
    run = Run("v_prediction", frames=2, sdxl=True)
    ours = run.sample(guidance_scale=2.0)
    theirs = run.reference_steps(1, guidance_scale=2.0, tau_f=0.8, tau_a=0.5)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine[0, 1], other[0])


@pytest.mark.parametrize("schedule", [None, "linear"])
def test_guidance_in_an_interval_equals_the_reference(schedule: str | None) -> None:
    run = Run(frames=2)
    ours = run.sample(
        guidance_scale=4.0, guidance_start=0.2, guidance_end=0.6, negative_schedule=schedule
    )
    scales = [4.0 if 0.2 * STEPS <= i < 0.6 * STEPS else 1.0 for i in range(STEPS)]
    theirs = run.reference_steps(
        1,
        scheduled=schedule is not None,
        guidance_scale=scales,
        tau_f=0.8,
        tau_a=0.5,
        schedule=schedule or "constant",
    )
    assert 4.0 in scales
    assert 1.0 in scales
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine[0, 1], other[0])


def test_several_prompts_equal_the_reference_of_each() -> None:
    run = Run(frames=2)
    ours = run.sample(prompts=2, guidance_scale=3.0)
    for prompt in range(2):
        theirs = run.reference_steps(1, prompt, guidance_scale=3.0, tau_f=0.8, tau_a=0.5)
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine[prompt, 1], other[0])


def test_eta_equals_the_reference_with_the_same_noise() -> None:
    run = Run(frames=2)
    ours = run.sample(eta=0.7, seed=11)
    generator, noise = torch.Generator().manual_seed(11), []
    for _ in range(STEPS):
        noise.append(gaussian_noise(tuple(run.latents.shape), generator, run.latents)[1:2])
        gaussian_noise(tuple(run.latents.shape[1:]), generator, run.latents)
    theirs = run.reference_steps(
        1, guidance_scale=7.5, tau_f=0.8, tau_a=0.5, eta=0.7, step_noise=noise
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine[0, 1], other[0])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_without_injection_it_is_plain_ddim_from_the_inverted_noise(prediction: str) -> None:
    run = Run(prediction)
    ours = run.sample(tau_f=0, tau_a=0, guidance_scale=1)
    theirs = reference.plain_ddim(
        run.unet,
        run.trajectory.noise,
        run.targets[0].hidden,
        steps=STEPS,
        prediction=prediction,
        alphas=run.alphas,
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine[0], other)


def test_full_injection_of_the_reconstruction_gives_the_reconstruction() -> None:
    run = Run(frames=2)
    back = reconstruct_latents(
        run.network, run.schedule, run.trajectory.noise, run.source, batches=Batches(2)
    )
    trajectory = run.as_trajectory(back)
    ours = run.sample(
        trajectory=trajectory, targets=[run.source], tau_f=1, tau_a=1, guidance_scale=1
    )
    for i, mine in enumerate(ours):
        assert_close(mine[0], back[i + 1])


def test_the_result_does_not_depend_on_the_batch_size() -> None:
    run = Run(frames=5)
    whole = run.sample(batch_size=5)[-1]
    for batch_size in (1, 2, 3, 8):
        assert_close(run.sample(batch_size=batch_size)[-1], whole, 1e-12)


def test_finer_inversion_passes_through_every_sampling_timestep() -> None:
    fine = schedule_of("epsilon", 4 * STEPS)
    assert fine.inversion_timesteps[::4] == fine.timesteps
    assert fine.inversion_levels[::4] == fine.levels[:-1]
    assert fine.inversion_levels[-1] == fine.levels[-1]
    assert list(fine.inversion_timesteps) == reference.timesteps(4 * STEPS)[3:]
    run = Run()
    latents = run.invert(fine)
    naive = reference.ddim_invert(
        run.unet, run.latents, run.source.hidden, 4 * STEPS, "epsilon", alphas=run.alphas
    )
    for i, timestep in enumerate(fine.timesteps):
        assert_close(latents[i], naive[timestep])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("iterations", [2, 3])
def test_iterated_inversion_is_as_in_the_reference(prediction: str, iterations: int) -> None:
    run = Run(prediction)
    run.smooth()
    latents = run.invert(iterations=iterations)
    naive = reference.ddim_invert(
        run.unet,
        run.latents,
        run.source.hidden,
        STEPS,
        prediction,  # type: ignore[arg-type]
        iterations=iterations,
        alphas=run.alphas,
    )
    for i, timestep in enumerate(run.schedule.timesteps):
        assert_close(latents[i], naive[timestep])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_more_iterations_bring_the_source_back_more_truly(prediction: str) -> None:
    run = Run(prediction)
    run.smooth()

    def error(iterations: int) -> float:
        noise = run.invert(iterations=iterations)[0]
        back = reconstruct_latents(run.network, run.schedule, noise, run.source, batches=Batches(1))
        return float((back[-1] - run.latents).norm() / run.latents.norm())

    errors = [error(iterations) for iterations in (1, 2, 3, 15)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-8


def test_thresholds_by_layer() -> None:
    """As docs/python.md says: at each step an injector for the layers that are still on."""
    tau_f = 0.75
    tau_a = {"up_blocks.1.attentions.1": 0.2, "up_blocks.2": 1.0, "up_blocks.3.attentions.0": 0.5}
    run = Run()
    naive = run.reference_steps(
        0,
        guidance_scale=1.0,
        tau_f=1.0,
        tau_a=1.0,
        tau_by_place={"f": tau_f} | tau_a,
    )
    levels, latents = run.schedule, run.trajectory.latents[0, slice(0, 1)]
    texts = concatenate([run.source, run.targets[0]])
    for i, timestep in enumerate(levels.timesteps):
        (feature,) = default_layers(run.unet).features
        features, attentions = (
            tuple(name for name, tau in taus.items() if i < first_steps(tau, STEPS))
            for taus in ({feature: tau_f}, tau_a)
        )
        layers = InjectionLayers(features=features, attentions=attentions)
        injector = FeatureInjector(run.network, layers)
        batch = InjectedBatch(
            latents=torch.cat([run.trajectory.latents[i, slice(0, 1)], latents]),
            timestep=timestep,
            texts=texts,
            with_source=True,
            features=True,
            attention=True,
        )
        with injector.installed():
            output = injector.predict(batch)
        start, end = levels.levels[i : i + 2]
        latents = ddim_step(latents, output, start, end, levels.prediction_type)
        assert_close(latents, naive[i])
