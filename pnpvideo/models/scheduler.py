"""Check that a model's scheduler has noise levels that Stable Diffusion can be sampled with."""

from collections.abc import Mapping
from typing import Any

from diffusers import DDIMScheduler

from pnpvideo.errors import InputError

_PREDICTIONS = ("epsilon", "v_prediction", "sample")


def check_scheduler(scheduler: Any, changes: Mapping[str, object] | None = None) -> None:
    """Raise InputError unless noise levels come from a table of betas (Ho et al. 2020).

    changes: entries that replace those of its configuration.
    Many sampler classes use that table. Models without it are trained on other levels, and to
    predict something else: flow matching (Lipman et al. 2023), EDM (Karras et al. 2022) and others.
    With zero terminal SNR the last level is pure noise, in which a prediction of the noise says
    nothing about the picture (Lin et al. 2024, "Common diffusion noise schedules and sample steps
    are flawed", section 3.1).
    """
    config, name = {**scheduler.config, **(changes or {})}, type(scheduler).__name__
    prediction = config.get("prediction_type", "epsilon")
    check_family(scheduler, config)
    if prediction not in _PREDICTIONS:
        raise InputError(
            f"the model's scheduler, a {name}, has prediction_type {prediction!r}; only "
            f"{', '.join(_PREDICTIONS)} can be sampled"
        )
    if config.get("rescale_betas_zero_snr") and prediction == "epsilon":
        raise InputError(
            "the model's scheduler has zero terminal SNR (rescale_betas_zero_snr) with epsilon "
            "prediction, which gives black pictures; if the model was trained for v_prediction, "
            "give --prediction-type v_prediction"
        )
    try:
        DDIMScheduler.from_config(config)
    except NotImplementedError:
        raise InputError(
            f"the model's scheduler, a {name}, has beta_schedule {config.get('beta_schedule')!r}, "
            "which cannot be sampled here"
        ) from None


def check_family(scheduler: Any, config: Mapping[str, Any] | None = None) -> None:
    """Raise InputError if a scheduler is for noise that is not from a table of betas.

    config: in place of its own.
    """
    kind = _other_kind(scheduler, scheduler.config if config is None else config)
    if kind is not None:
        raise InputError(
            f"the model's scheduler, a {type(scheduler).__name__}, is for {kind}, which cannot be "
            "sampled here; give a Stable Diffusion 1.x, 2.x or XL model of the usual kind"
        )


def _other_kind(scheduler: Any, config: Mapping[str, Any]) -> str | None:
    """Return a scheduler's kind of noise, in words, if it is not from a table of betas.

    It shows in what a scheduler has, whatever its class is called: the table, a shift of flow
    matching, or the standard deviation of the data by which EDM scales.
    """
    prediction = config.get("prediction_type", "")
    if config.get("use_flow_sigmas") or "flow" in str(prediction) or "shift" in config:
        return "flow matching"
    if config.get("timestep_type") == "continuous" or (prediction and "sigma_data" in config):
        return "EDM's noise levels"
    if getattr(scheduler, "alphas_cumprod", None) is None:
        return "another kind of noise"
    if config.get("snr_shift_scale", 1) != 1:
        return "shifted noise levels"
    return None
