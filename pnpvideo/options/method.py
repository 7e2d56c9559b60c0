"""Every option of the method with its default, declared once. The defaults are the paper's, which
is about images; `blend_radius` is for clips.

A model's folder may hold a `pnp.json` with other values for that model (see `load_model`).
"""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options

NegativeSchedule = Literal["constant", "linear", "exp"]
NoiseSource = Literal["gaussian", "keyframe"]
AttentionSharing = Literal["none", "extended", "propagate"]
ControlKind = Literal["canny", "softedge", "lineart"]
KeyframeStrategy = Literal["uniform", "random", "sliding", "content"]

Preset = Literal["fast", "balanced", "best"]

PRESETS: dict[Preset, float] = {"fast": 0.3, "balanced": 0.6, "best": 1.0}
"""By preset: the share of the model's own number of steps, both of inversion and of sampling."""

DEFAULT_BATCH_SIZE = 4
"""Frames in one pass of the network while sampling."""

BRANCHES = 3
"""Of sampling with guidance: source, negative prompt, prompt. Inversion has one, so that as many
times as many frames in one of its passes take no more memory, and less time each."""

DIFFUSERS_NAMES = {
    "num_inference_steps": "steps",
    "num_inversion_steps": "inversion_steps",
    "controlnet_conditioning_scale": "control_scale",
    "control_guidance_end": "control_end",
}
"""diffusers' names of options that have a shorter one here."""


class Lifetime(Enum):
    """What an option changes first, and with it all that comes later: what was made before stays.

    An option notes its own in its annotation; without a note it belongs to sampling.
    """

    INVERSION = "the trajectory of the source"
    SAMPLING = "the latents of the result"
    FINISHING = "the frames of the result"


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class MethodOptions(Options):
    """The options of the method, each within its own limits; some of them may be left to the model.

    With s the guidance scale, guidance is eps = e + s (eps_cond - e). Without a negative schedule e
    is the prediction under the negative prompt, as everywhere in diffusers. With one (paper,
    section 4.3), at step i of T, e = a_i eps_uncond + (1 - a_i) eps_negative, where a_i is
    negative_alpha * c_i and c_i is 1 (constant), 1 - i / (T - 1) (linear) or exp(-6 i / (T - 1))
    (exp): the negative prompt grows stronger as sampling goes on.
    Shared noise is x_T = sqrt(1 - noise_share) z_T + sqrt(noise_share) n with one n for all frames;
    the noise of single steps, with eta above 0, is Gaussian always.
    Guidance in a part of the steps: Kynkaanniemi et al. 2024, "Applying guidance in a limited
    interval". Further: `invert_latents`, `carry_noise`, `FrameAttention`, `choose_keyframes`,
    `blend_frames`.
    """

    steps: Annotated[int, Field(ge=1, le=999), Lifetime.INVERSION] = Field(
        default=50, description="sampling steps"
    )
    inversion_steps: Annotated[int | None, Field(ge=1, le=1000), Lifetime.INVERSION] = Field(
        default=None, description="a multiple of steps (the same)"
    )
    inversion_iterations: Annotated[Count, Lifetime.INVERSION] = Field(
        default=1,
        description="passes for each step of inversion; 2 bring the source back, 1 may lose it",
    )
    guidance_scale: Annotated[float, Field(ge=0)] = Field(
        default=7.5, description="how strongly the prompt is followed; 1: no guidance"
    )
    guidance_start: Share = Field(
        default=0.0,
        description="part of the steps that go by without guidance first; they are faster",
    )
    guidance_end: Share = Field(
        default=1.0, description="part of the steps after which guidance ends"
    )
    guidance_rescale: Share = Field(
        default=0.0,
        description="how far guided predictions get the spread of unguided ones, against "
        "overexposure (Lin et al. 2024, section 3.4)",
    )
    clip_skip: Annotated[int, Field(ge=0), Lifetime.INVERSION] = Field(
        default=0, description="last layers of the text encoder that prompts go without"
    )
    prompt_weights: Annotated[bool, Lifetime.INVERSION] = Field(
        default=False,
        description="read weights such as (red:1.3), (red) and [red] in prompts, BREAK, and texts "
        "of any length, as A1111's web UI and ComfyUI write them",
    )
    tau_f: Share = Field(
        default=0.8, description="part of the steps that inject features (paper, section 4.1)"
    )
    tau_a: Share = Field(
        default=0.5,
        description="part of the steps that inject self-attention queries and keys (section 4.2)",
    )
    negative_schedule: NegativeSchedule | None = Field(
        default=None,
        description="let the negative prompt grow stronger over the steps, as in the paper (off)",
    )
    negative_alpha: Share = Field(
        default=1.0,
        description="of the schedule: 1 starts with no negative prompt, 0 has it fully always",
    )
    noise_share: Share = Field(
        default=0.0,
        description="share of fresh noise, the same for all frames, in the inverted noise; more "
        "frees the result from the source's brightness and colours",
    )
    noise_source: NoiseSource = Field(
        default="gaussian",
        description="of noise_share: fresh noise, or that of each scene's first keyframe",
    )
    noise_motion: bool = Field(
        default=False,
        description="carry shared noise along the source's motion, else it stands still",
    )
    eta: Share = Field(
        default=0.0, description="randomness of DDIM sampling; 1 is as noisy as DDPM"
    )
    attention_sharing: AttentionSharing = Field(
        default="none",
        description="extended: frames also attend to the keyframes around them; propagate: they "
        "take the keyframes' attention where the source shows the same; none: frame by frame",
    )
    keyframes: KeyframeStrategy = Field(
        default="random",
        description="every n-th; one drawn of each n, or every n-th moving on, anew at each step; "
        "or by change of the source",
    )
    keyframe_every: Count = Field(default=8, description="frames from keyframe to keyframe")
    keyframe_window: Count = Field(
        default=4, description="keyframes that attend to one another; more takes more memory"
    )
    control: Annotated[ControlKind | None, Lifetime.INVERSION] = Field(
        default=None,
        description="with a ControlNet: what of the source it follows, its edges as thin lines "
        "(canny) or soft ones, or its dark lines (lineart)",
    )
    control_scale: Annotated[float, Field(ge=0, le=2), Lifetime.INVERSION] = Field(
        default=1.0, description="how closely a ControlNet is followed; 0: not at all"
    )
    control_end: Annotated[Share, Lifetime.INVERSION] = Field(
        default=1.0, description="part of the steps after which the ControlNet rests"
    )
    blend_radius: Annotated[int, Field(ge=0), Lifetime.FINISHING] = Field(
        default=2,
        description="frames on either side that a result's frame is averaged with along the "
        "source's motion, against flicker; 0: none",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        decided = self._decided()
        steps, inverted = self.steps, self.inversion_steps
        if inverted and inverted % steps and {"steps", "inversion_steps"} <= decided:
            raise InputError(f"inversion_steps is {inverted}; give a multiple of steps, {steps}")
        start, end = self.guidance_start, self.guidance_end
        if start > end and {"guidance_start", "guidance_end"} <= decided:
            raise InputError(f"guidance_start is {start}; give at most guidance_end, {end}")
        return self

    def _decided(self) -> set[str]:
        """The options that no model changes any more."""
        return self.model_fields_set


class PnPOptions(MethodOptions):
    """How a source is inverted and how its translation is sampled: all options, fit together."""

    def _decided(self) -> set[str]:
        return set(MethodOptions.model_fields)

    @property
    def inversion_step_count(self) -> int:
        return self.inversion_steps or self.steps

    @property
    def is_guided(self) -> bool:
        """Whether negative prompts take part in sampling."""
        return self.guidance_scale != 1

    @property
    def draws(self) -> bool:
        """Whether results of the same source and prompt differ by the seed."""
        fresh = self.noise_source == "gaussian" or self.noise_motion
        return self.eta > 0 or (self.noise_share > 0 and fresh)

    def at(self, preset: Preset | None) -> Self:
        """These options at another speed; None and "best" are the options as they are."""
        MethodSettings.check("preset", preset)
        if preset is None:
            return self
        steps = max(1, round(PRESETS[preset] * self.steps))
        finer = self.inversion_steps and self.inversion_steps // self.steps * steps
        return self.of({**self.model_dump(), "steps": steps, "inversion_steps": finer})

    def override(self, changes: Mapping[str, object]) -> Self:
        """These options with the named ones replaced; None means: keep."""
        given = {name: value for name, value in changes.items() if value is not None}
        return self.of(self.model_dump() | given)

    @classmethod
    def lifetime(cls, name: str) -> Lifetime:
        notes = (note for note in cls.model_fields[name].metadata if isinstance(note, Lifetime))
        return next(notes, Lifetime.SAMPLING)

    def identity(self, *lifetimes: Lifetime) -> dict[str, str]:
        """What tells work of these lifetimes from that with other options, by option."""
        values = self.model_dump() | {"inversion_steps": self.inversion_step_count}
        return {
            name: str(value) for name, value in values.items() if self.lifetime(name) in lifetimes
        }


class MethodSettings(MethodOptions):
    """The method as a run chooses it: what is not given is the model's own."""

    preset: Preset | None = Field(
        default=None,
        description="how fast, by fewer steps (best); steps and the other options win over it",
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_none(cls, values: dict[str, object]) -> dict[str, object]:
        own = MethodOptions.model_fields
        return {k: v for k, v in values.items() if v is not None or k not in own}

    def resolve(self, own: PnPOptions) -> PnPOptions:
        """The options of a run with a model that has these of its own."""
        given = self.model_fields_set & set(MethodOptions.model_fields)
        return own.at(self.preset).override({name: getattr(self, name) for name in given})
