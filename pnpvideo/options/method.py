"""Every option of the method with its default, declared once. The defaults are the paper's, which
is about images; `blend_radius` is for clips.

A model's folder may hold a `pnp.json` with other values for that model (see `load_model`).
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options, one_of, shown
from pnpvideo.options.edit_method import (
    INJECT,
    OF_CLEAN,
    OWN_STRENGTH,
    UNGUIDED,
    MethodName,
    SolverName,
    thresholds,
)
from pnpvideo.options.fit import check_fit, fitted

NegativeSchedule = Literal["constant", "linear", "exp"]
NoiseSource = Literal["gaussian", "keyframe"]
AttentionSharing = Literal["none", "extended", "propagate"]
ControlKind = Literal["canny", "softedge", "lineart"]
KeyframeStrategy = Literal["uniform", "random", "sliding", "content"]
StartKind = Literal["inverted", "noised", "noise"]

Preset = Literal["fast", "balanced", "best"]

PRESETS: dict[Preset, float] = {"fast": 0.3, "balanced": 0.6, "best": 1.0}
"""By preset: the share of the model's own number of steps, for both inversion and sampling."""

DEFAULT_BATCH_SIZE = 4
"""Frames in one pass of the network while sampling."""

BRANCHES = 3
"""Branches of sampling with guidance: source, negative prompt, prompt. Inversion has one branch, so
one of its passes holds this many times as many frames in the same memory. Each takes less time."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class MethodOptions(Options):
    """The options of the method, each within its own limits; the model may decide some of them.

    With s the guidance scale, guidance is eps = e + s (eps_cond - e). Without a negative schedule e
    is the prediction under the negative prompt, as everywhere in diffusers. With one (paper,
    section 4.3), at step i of T, e = a_i eps_uncond + (1 - a_i) eps_negative, where a_i is
    negative_alpha * c_i and c_i is 1 (constant), 1 - i / (T - 1) (linear) or exp(-6 i / (T - 1))
    (exp): the negative prompt grows stronger as sampling goes on.
    Shared noise is x_T = sqrt(1 - noise_share) z_T + sqrt(noise_share) n with one n for all frames;
    the noise of single steps, with eta above 0, is always Gaussian.
    Guidance in a part of the steps: Kynkaanniemi et al. 2024, "Applying guidance in a limited
    interval". See also `invert_latents`, `carry_noise`, `FrameAttention`, `choose_keyframes` and
    `blend_frames`.
    """

    steps: Annotated[int, Field(ge=1, le=999), Lifetime.INVERSION] = Field(
        default=50, description="sampling steps"
    )
    inversion_steps: Annotated[int | None, Field(ge=1, le=1000), Lifetime.INVERSION] = Field(
        default=None,
        description="inversion steps, a multiple of the sampling steps (the same number)",
    )
    inversion_iterations: Annotated[int, Lifetime.INVERSION] = Field(
        default=1,
        ge=1,
        le=100,
        description="network passes for each inversion step; with 2 the inversion reproduces the "
        "source, with 1 it may not",
    )
    solver: Annotated[SolverName, Lifetime.INVERSION] = Field(
        default="ddim",
        description="how the source is inverted: ddim; lookahead, nearer to the source; midpoint, "
        "of second order, in twice the time; fireflow, of second order, in the same time",
    )
    exact_source: Annotated[bool, Lifetime.INVERSION] = Field(
        default=False,
        description="correct each step by what the inversion missed, so that sampling with the "
        "source's own text returns the source exactly; keeps the inverted source in full precision",
    )
    method: Annotated[MethodName, Lifetime.SAMPLING] = Field(
        default=INJECT,
        description="how the source is kept: inject its features and attention (inject); follow "
        "the difference of two velocities (uniedit); the same without an inversion (flowedit, "
        "flowalign); follow the inverted source's path (steerflow)",
    )
    strength: Annotated[Share | None, Lifetime.SAMPLING] = Field(
        default=None,
        description="how far the result may go from the source, from 0 (near) to 1 (free), for "
        "every method; for inject it sets tau_f and tau_a (the method's own)",
    )
    source_guidance: Annotated[float, Field(ge=0, le=100), Lifetime.SAMPLING] = Field(
        default=1.0,
        description="for flowedit: the guidance scale of the source under its own text; 1: no "
        "guidance",
    )
    long_scene_boost: Annotated[float, Field(ge=0, le=10), Lifetime.SAMPLING] = Field(
        default=0.0,
        description="for flowedit and flowalign with models of videos: how much to strengthen what "
        "changes most between the texts; in full for scenes of 21 latent frames, more in longer "
        "ones; 0: not at all",
    )
    guidance_scale: Annotated[float, Field(ge=0, le=100), Lifetime.SAMPLING] = Field(
        default=7.5,
        description="how strongly the result follows the prompt; 1: no guidance; 3 to 10 is usual "
        "with large models, and more makes colours glare",
        json_schema_extra={"brief": "how strongly the result follows the prompt"},
    )
    guidance_scale_2: Annotated[float | None, Field(ge=0, le=100), Lifetime.SAMPLING] = Field(
        default=None,
        description="for models with a second transformer for low noise (Wan 2.2 A14B): its "
        "guidance scale (that of the first)",
    )
    guidance_start: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=0.0,
        description="share of the steps before guidance starts; steps without it are faster",
    )
    guidance_end: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=1.0, description="share of the steps after which guidance ends"
    )
    guidance_rescale: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=0.0,
        description="how far guided predictions are rescaled to the standard deviation of the "
        "conditional ones, against overexposure (Lin et al. 2024, section 3.4)",
    )
    clip_skip: Annotated[int, Field(ge=0, le=100), Lifetime.INVERSION] = Field(
        default=0, description="how many of the text encoder's last layers to skip"
    )
    prompt_weights: Annotated[bool, Lifetime.INVERSION] = Field(
        default=False,
        description="read weights such as (red:1.3), (red) and [red], BREAK, and prompts of any "
        "length, as A1111's web UI and ComfyUI do",
    )
    tau_f: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=0.8,
        description="share of the steps that inject the source's features (paper, section 4.1)",
        json_schema_extra={"brief": "keep shapes: share of the steps that inject features"},
    )
    tau_a: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=0.5,
        description="share of the steps that inject the source's self-attention queries and keys "
        "(section 4.2)",
        json_schema_extra={"brief": "keep outlines: share of the steps that inject attention"},
    )
    feature_level: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=1.0,
        description="noise level, from 0 (clean) to 1 (noise), at which the source is read for all "
        "steps above that level; one reading then serves many steps, which saves time; 1: read the "
        "source at each step's own level, as in the paper",
    )
    start_from: Annotated[StartKind, Lifetime.INVERSION] = Field(
        default="inverted",
        description="what sampling starts from: the inverted source (inverted), the source with "
        "random noise (noised), or noise alone (noise); the last two skip the inversion",
    )
    start_level: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=1.0,
        description="noise level, from 0 (clean) to 1 (noise), at which sampling starts; with "
        "less, the result keeps more of the source (SDEdit)",
    )
    negative_schedule: Annotated[NegativeSchedule | None, Lifetime.SAMPLING] = Field(
        default=None,
        description="how the negative prompt grows stronger over the steps, as in the paper (off)",
    )
    negative_alpha: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=1.0,
        description="start of the negative schedule: 1 starts without the negative prompt, 0 "
        "applies it in full from the start",
    )
    noise_share: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=0.0,
        description="share of noise that is the same for all frames, to mix into the inverted "
        "noise; with more, the result keeps less of the source's brightness and colours",
    )
    noise_source: Annotated[NoiseSource, Lifetime.SAMPLING] = Field(
        default="gaussian",
        description="where shared noise comes from: drawn at random (gaussian), or the noise of "
        "each scene's first keyframe (keyframe)",
    )
    noise_motion: Annotated[bool, Lifetime.SAMPLING] = Field(
        default=False,
        description="move shared noise along with the source's motion",
    )
    eta: Annotated[Share, Lifetime.SAMPLING] = Field(
        default=0.0, description="randomness of DDIM sampling; 1 is as noisy as DDPM"
    )
    attention_sharing: Annotated[AttentionSharing, Lifetime.SAMPLING] = Field(
        default="none",
        description="extended: frames also attend to the keyframes around them; propagate: frames "
        "take the keyframes' attention output where the source matches; none: each frame by itself",
    )
    keyframes: Annotated[KeyframeStrategy, Lifetime.SAMPLING] = Field(
        default="random",
        description="which frames are keyframes; uniform: every n-th; random: one out of every n, "
        "drawn again at every step; sliding: every n-th, shifted at every step; content: where the "
        "source changes",
    )
    keyframe_every: Annotated[int, Lifetime.SAMPLING] = Field(
        default=8, ge=1, le=100_000, description="n: frames from one keyframe to the next"
    )
    keyframe_window: Annotated[int, Lifetime.SAMPLING] = Field(
        default=4,
        ge=1,
        le=1000,
        description="how many keyframes attend to one another; more take more memory",
    )
    control: Annotated[ControlKind | None, Lifetime.INVERSION] = Field(
        default=None,
        description="with a ControlNet: what it follows in the source, thin edges (canny), soft "
        "edges (softedge) or dark lines (lineart)",
    )
    control_scale: Annotated[float, Field(ge=0, le=2), Lifetime.INVERSION] = Field(
        default=1.0, description="how closely a ControlNet is followed; 0: not at all"
    )
    control_end: Annotated[Share, Lifetime.INVERSION] = Field(
        default=1.0, description="share of the steps after which the ControlNet is switched off"
    )
    blend_radius: Annotated[int, Field(ge=0, le=100), Lifetime.FINISHING] = Field(
        default=2,
        description="reduce flicker: how many frames on either side to average each frame with, "
        "along the source's motion; 0: none",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        check_fit(self.__dict__, self._decided())
        return self

    @property
    def inverts(self) -> bool:
        """Whether the source is inverted."""
        return self.start_from == "inverted" and not self.edits_clean

    @property
    def injects(self) -> bool:
        """Whether sampling injects the source's features and attention."""
        return self.method == INJECT

    @property
    def edits_clean(self) -> bool:
        """Whether sampling changes the clean latents from step to step."""
        return self.method in OF_CLEAN

    def _decided(self) -> set[str]:
        """Return the names of the options that are final, whatever the model."""
        return self.model_fields_set


class PnPOptions(MethodOptions):
    """All options of inverting a source and sampling its translation, checked together."""

    def _decided(self) -> set[str]:
        return set(MethodOptions.model_fields)

    @property
    def inversion_step_count(self) -> int:
        return self.inversion_steps or self.steps

    @property
    def is_guided(self) -> bool:
        """Whether sampling uses negative prompts."""
        scales = self.guidance_scale, self.guidance_scale_2
        return self.method not in UNGUIDED and any(scale not in (1, None) for scale in scales)

    @property
    def thresholds(self) -> tuple[float, float]:
        """tau_f and tau_a, as the strength sets them if it is given."""
        given = self.tau_f, self.tau_a
        return given if self.strength is None else thresholds(self.strength)

    @property
    def own_strength(self) -> float:
        """The strength of another method than inject: as given, or the method's own."""
        return OWN_STRENGTH[self.method] if self.strength is None else self.strength

    @property
    def reads_differences(self) -> bool:
        """Whether sampling reads differences of levels, which half precision would lose."""
        return self.exact_source or self.method == "steerflow"

    @property
    def draws(self) -> bool:
        """Whether the seed changes the result of a source and a prompt."""
        fresh = self.noise_source == "gaussian" or self.noise_motion
        drawn = not self.inverts or (self.noise_share > 0 and fresh)
        return self.eta > 0 or drawn

    def at(self, preset: Preset | None) -> Self:
        """Return these options at another speed.

        Args:
            preset: "fast" or "balanced", which have fewer steps; "best" and None change nothing.

        Returns:
            The options, with the steps of sampling and of the inversion in the same proportion.

        Raises:
            InputError: If there is no such preset.
        """
        if preset is None:
            return self
        if preset not in PRESETS:
            raise InputError(f"preset is {shown(preset)}; give {one_of(PRESETS)}")
        steps = max(1, round(PRESETS[preset] * self.steps))
        finer = self.inversion_steps and self.inversion_steps // self.steps * steps
        return self.of({**self.model_dump(), "steps": steps, "inversion_steps": finer})

    def override(self, changes: Mapping[str, object]) -> Self:
        """Return these options with some of them replaced.

        Args:
            changes: New values by the names of options, as `{"steps": 10}`; None keeps a value.

        Returns:
            The options. Options that are not in `changes` and do not go with the new values are
            switched off.

        Raises:
            InputError: If a name is unknown, a value is out of range, or values do not go together.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        return self.of(fitted(self.model_dump() | given, given.keys()))

    def identity(self, *lifetimes: Lifetime) -> dict[str, str]:
        """Return the options of exactly these lifetimes as texts.

        Work that such an option changes can be used again if its text is the same.
        """
        values = self.model_dump() | {"inversion_steps": self.inversion_step_count}
        if self.edits_clean:
            values["start_from"] = "noised"  # Both keep the clean latents alone.
        return {
            name: str(value) for name, value in values.items() if self.lifetime(name) in lifetimes
        }
