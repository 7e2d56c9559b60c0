"""Every option of the method with its default, written once. The defaults are the paper's, which
is about images; `blend_radius` is for clips.

A model's folder may hold a `pnp.json` with other values for that model (see `load_model`).
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from pnpvideo.errors import InputError

NegativeSchedule = Literal["constant", "linear", "exp"]
NoiseSource = Literal["gaussian", "keyframe"]
AttentionSharing = Literal["none", "extended", "propagate"]
KeyframeStrategy = Literal["uniform", "random", "sliding", "content"]

Preset = Literal["fast", "balanced", "best"]

PRESETS: dict[Preset, float] = {"fast": 0.3, "balanced": 0.6, "best": 1.0}
"""By preset: the share of the model's own number of steps, both of inversion and of sampling."""

DEFAULT_BATCH_SIZE = 4
"""Frames in one pass of the network while sampling."""

BRANCHES = 3
"""Of sampling with guidance: source, negative prompt, prompt. Inversion has one, so that as many
times as many frames in one of its passes take no more memory, and less time each."""


@dataclass(frozen=True, kw_only=True)
class PnPOptions:
    """How a source is inverted and how its translation is sampled.

    steps: sampling steps T, 1 to 999.
    inversion_steps: a multiple of steps; None means the same number.
    inversion_iterations: network passes for each step of inversion, at least 1, as in the paper;
        with 2 the source comes back as well as the autoencoder lets it (see `invert_latents`).
    guidance_scale: s of classifier-free guidance, eps = e + s (eps_cond - e); 1 switches it off.
    guidance_start, guidance_end: the steps with guidance, as shares of T, 0 to 1; without it a step
        takes a pass less (Kynkaanniemi et al. 2024, "Applying guidance in a limited interval").
    tau_f: features are injected in the first tau_f * T steps, 0 to 1 (paper, section 4.1).
    tau_a: queries and keys are injected in the first tau_a * T steps, 0 to 1 (section 4.2).
    negative_alpha, negative_schedule: the negative-prompt schedule (section 4.3): at step i of T
        e = a_i eps_uncond + (1 - a_i) eps_negative with a_i = negative_alpha * c_i, where c_i is 1
        (constant), 1 - i / (T - 1) (linear) or exp(-6 i / (T - 1)) (exp). The negative prompt grows
        stronger as sampling goes on. None means no schedule: e is the prediction under the
        negative prompt, as everywhere in diffusers.
    noise_share: s in x_T = sqrt(1 - s) z_T + sqrt(s) n with one noise n for all frames, 0 to 1.
        0 is the paper; fresh noise frees the result from the source's brightness and colours.
    noise_source: what n is: "gaussian", or "keyframe", the z_T of the scene's first
        keyframe. The noise of single steps, with eta above 0, is Gaussian always.
    noise_motion: carry n along the source's motion, instead of letting it stand still (see
        `carry_noise`).
    eta: of DDIM, 0 (deterministic) to 1 (as noisy as DDPM).
    attention_sharing: "none": frame by frame, as in the paper; "extended": frames also attend to
        the neighbouring keyframes' tokens; "propagate": they take the keyframes' attention outputs
        (see `FrameAttention`).
    keyframes: which frames are keyframes (see `choose_keyframes`).
    keyframe_every: frames from one keyframe to the next, at least 1.
    keyframe_window: keyframes that attend to one another, at least 1. They go through the network
        together, so they take memory as that many frames of a batch do.
    blend_radius: frames on either side that each frame of the result is averaged with along the
        source's motion, at least 0 (see `blend_frames`).
    """

    steps: int = 50
    inversion_steps: int | None = None
    inversion_iterations: int = 1
    guidance_scale: float = 7.5
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    tau_f: float = 0.8
    tau_a: float = 0.5
    negative_alpha: float = 1.0
    negative_schedule: NegativeSchedule | None = None
    noise_share: float = 0.0
    noise_source: NoiseSource = "gaussian"
    noise_motion: bool = False
    eta: float = 0.0
    attention_sharing: AttentionSharing = "none"
    keyframes: KeyframeStrategy = "random"
    keyframe_every: int = 8
    keyframe_window: int = 4
    blend_radius: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.steps < 1000:
            raise InputError(f"steps is {self.steps}; give a whole number from 1 to 999")
        inversion = self.steps if self.inversion_steps is None else self.inversion_steps
        if inversion < self.steps or inversion % self.steps or inversion > 1000:
            raise InputError(
                f"inversion steps is {inversion}; give a multiple of the steps, {self.steps}"
            )
        if not 0 <= self.guidance_scale < math.inf:
            raise InputError(
                f"guidance scale is {self.guidance_scale}; give a number of at least 0"
            )
        for name in (
            "guidance_start",
            "guidance_end",
            "tau_f",
            "tau_a",
            "negative_alpha",
            "noise_share",
            "eta",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; give a number from 0 to 1")
        if self.guidance_start > self.guidance_end:
            raise InputError(
                f"guidance_start is {self.guidance_start}; give at most guidance_end, "
                f"{self.guidance_end}"
            )
        for name in ("inversion_iterations", "keyframe_every", "keyframe_window"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a number of at least 1")
        if self.blend_radius < 0:
            raise InputError(f"blend_radius is {self.blend_radius}; give a number of at least 0")
        for name, kind in (
            ("negative_schedule", NegativeSchedule),
            ("noise_source", NoiseSource),
            ("attention_sharing", AttentionSharing),
            ("keyframes", KeyframeStrategy),
        ):
            value, accepted = getattr(self, name), get_args(kind)
            if value not in accepted and not (name == "negative_schedule" and value is None):
                raise InputError(
                    f"{name.replace('_', ' ')} is {value!r}; "
                    f"give {', '.join(accepted[:-1])} or {accepted[-1]}"
                )

    def at(self, preset: Preset | None) -> "PnPOptions":
        """These options at another speed; None and "best" are the options as they are."""
        if preset is None:
            return self
        if preset not in PRESETS:
            raise InputError(f"preset is {preset!r}; give {', '.join(PRESETS)}")
        steps = max(1, round(PRESETS[preset] * self.steps))
        finer = self.inversion_steps and self.inversion_steps // self.steps * steps
        return replace(self, steps=steps, inversion_steps=finer)

    def override(self, values: dict[str, Any]) -> "PnPOptions":
        """These options with the named ones replaced; None means: keep."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
