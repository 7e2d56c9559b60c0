"""Schedulers whose noise is not sampled here are refused; the others are sampled as they say."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import yaml
from command import SHORT, Cli, assert_refused, pixels
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.loading.load import load_model
from pnpvideo.models.scheduler import check_scheduler
from pnpvideo.models.stable_diffusion.schedule import make_schedule
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.sampling.schedule import ddim_step

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = BETAS | {"steps_offset": 1}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def scheduler_of(name: str, **config: Any) -> Any:
    return getattr(diffusers, name)(**config)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}, "flow matching"),
        ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}, "flow matching"),
        ("FlowMatchLCMScheduler", {}, "flow matching"),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True}, "flow matching"),
        ("DPMSolverMultistepScheduler",
         {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "flow matching"),
        ("EDMEulerScheduler", {}, "EDM's noise levels"),
        ("EDMDPMSolverMultistepScheduler", {}, "EDM's noise levels"),
        ("EDMDPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}, "EDM's noise"),
        ("KarrasVeScheduler", {}, "another kind of noise"),
        ("ScoreSdeVeScheduler", {}, "another kind of noise"),
        ("IPNDMScheduler", {}, "another kind of noise"),
        ("DEISMultistepScheduler", {"use_flow_sigmas": True}, "flow matching"),
        ("SASolverScheduler", {"prediction_type": "flow_prediction"}, "flow matching"),
        ("EulerDiscreteScheduler",
         BETAS | {"timestep_type": "continuous", "prediction_type": "v_prediction",
                  "sigma_min": 0.002, "sigma_max": 700.0}, "EDM's noise levels"),
        ("CMStochasticIterativeScheduler", {}, "another kind of noise"),
        ("DDPMWuerstchenScheduler", {}, "another kind of noise"),
        ("SCMScheduler", {}, "flow matching"),
        ("CogVideoXDDIMScheduler", {"snr_shift_scale": 3.0}, "shifted noise levels"),
        ("DDIMScheduler", SD | {"rescale_betas_zero_snr": True}, "zero terminal SNR"),
        ("DDIMScheduler", SD | ZERO, "zero terminal SNR"),
        ("EulerDiscreteScheduler", SD | ZERO, "--prediction-type v_prediction"),
        ("DDPMScheduler", {"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'"),
        ("DDIMScheduler", SD | {"prediction_type": "noise"}, "prediction_type 'noise'"),
    ],
)  # fmt: skip
def test_refused(name: str, config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as raised:
        check_scheduler(scheduler_of(name, **config))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DDIMScheduler", SD),
        ("DDIMScheduler", SD | {"prediction_type": "sample"}),
        ("PNDMScheduler", SD | {"skip_prk_steps": True}),
        ("EulerDiscreteScheduler", SD | {"timestep_spacing": "leading"}),
        ("DPMSolverMultistepScheduler", BETAS | {"use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", BETAS | {"prediction_type": "v_prediction"}),
        ("LCMScheduler", SD),
        ("TCDScheduler", BETAS),
        ("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2"}),
        ("DDIMScheduler", SD | {"prediction_type": "v_prediction"}),
        ("DDIMScheduler", SD | ZERO | {"prediction_type": "v_prediction"}),
        ("EulerDiscreteScheduler", SD | ZERO | {"prediction_type": "v_prediction"}),
    ],
)
@pytest.mark.parametrize("steps", [1, 8])
def test_sampled_as_by_diffusers(name: str, config: dict[str, Any], steps: int) -> None:
    scheduler = scheduler_of(name, **config)
    check_scheduler(scheduler)
    ours = make_schedule(scheduler.config, steps, steps)
    theirs = diffusers.DDIMScheduler.from_config(scheduler.config, clip_sample=False)
    theirs.set_timesteps(steps)
    assert ours.timesteps == tuple(theirs.timesteps.tolist())

    def network(latents: Tensor, timestep: float) -> Tensor:
        return (latents * (1 + timestep / 1000)).sin()

    latents = expected = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    for i, timestep in enumerate(ours.timesteps):
        output = network(latents, timestep)
        start, end = ours.levels[i : i + 2]
        latents = ddim_step(latents, output, start, end, ours.prediction_type)
        expected = theirs.step(network(expected, timestep), int(timestep), expected).prev_sample
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)


def test_a_model_that_says_its_prediction_wrongly(
    cli: Cli, tiny_model: Path, tmp_path: Path, picture: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    file = model / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | ZERO))
    given = (str(picture), *SHORT, "-o", "out.png")
    assert_refused(cli(*given, model=str(model)), 2, "give --prediction-type v_prediction")
    assert not (tmp_path / "out.png").exists()
    told = cli(*given, "--prediction-type", "v_prediction", model=str(model))
    assert told[::2] == (0, "")
    assert np.ptp(pixels(tmp_path / "out.png")) > 16
    record = yaml.safe_load((tmp_path / "out.png.yaml").read_text())
    assert record["prediction_type"] == "v_prediction"


class Renamed(diffusers.EDMDPMSolverMultistepScheduler):  # type: ignore[misc]
    """A scheduler of a kind that its name does not say."""


class RenamedFlow(diffusers.FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Another one."""


def test_the_kind_does_not_depend_on_the_name() -> None:
    for scheduler, words in ((Renamed(), "EDM's noise levels"), (RenamedFlow(), "flow matching")):
        with pytest.raises(InputError, match=words):
            check_scheduler(scheduler)


def test_another_family_is_refused_wherever_it_comes_from(
    tiny_model: Path, tmp_path: Path, pipeline: PnPVideoPipeline
) -> None:
    """Also with a prediction type, with a scheduler in its place, and in a pipeline's parts."""
    edm = diffusers.EDMDPMSolverMultistepScheduler()
    model = shutil.copytree(tiny_model, tmp_path / "model")
    edm.save_pretrained(model / "scheduler")
    index = json.loads((model / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EDMDPMSolverMultistepScheduler"]
    (model / "model_index.json").write_text(json.dumps(index))
    ddim = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    for make in (
        lambda: load_model(model),
        lambda: load_model(model, prediction_type="epsilon"),
        lambda: PnPVideoPipeline.from_pretrained(model, scheduler=ddim),
        lambda: PnPVideoPipeline.from_pretrained(tiny_model, scheduler=edm),
        lambda: PnPVideoPipeline(**{**pipeline.components, "scheduler": edm}),
        lambda: setattr(pipeline, "scheduler", edm),
    ):
        with pytest.raises(InputError, match="EDMDPMSolverMultistepScheduler, is for EDM's noise"):
            make()
    assert PnPVideoPipeline.from_pretrained(tiny_model, scheduler=ddim).scheduler is ddim


def test_a_schedule_of_ones_own(tiny_model: Path) -> None:
    """The scheduler's own numbers give the same; others are sampled as diffusers would."""
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    frames = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)

    def run(**more: Any) -> Any:
        generator = torch.Generator().manual_seed(0)
        return pipeline("a stone", frames, generator=generator, output_type="latent", **more)

    usual = run(num_inference_steps=4)
    default = [int(timestep) for timestep in usual.trajectory.timesteps]
    for given in (default, torch.tensor(default)):
        assert torch.equal(run(timesteps=given).frames, usual.frames)
    own = run(timesteps=[900, 400, 3], inversion_iterations=1)
    assert own.trajectory.timesteps == (900, 400, 3)
    # A call leaves nothing behind, and the trajectory belongs to its schedule.
    assert torch.equal(run(num_inference_steps=4).frames, usual.frames)
    again = pipeline("a stone", trajectory=own.trajectory, timesteps=[900, 400, 3],
                     generator=torch.Generator().manual_seed(0), inversion_iterations=1,
                     output_type="latent")  # fmt: skip
    assert torch.equal(again.frames, own.frames)
    with pytest.raises(InputError, match="timesteps of the trajectory are not"):
        pipeline("a stone", trajectory=own.trajectory, timesteps=[901, 400, 3])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"timesteps": []}, "timesteps is []; give a list of whole numbers"),
        ({"timesteps": 5}, "timesteps is 5; give a list"),
        ({"timesteps": "abc"}, "timesteps is 'abc'; give a list"),
        ({"timesteps": [1000, 1]}, "timesteps holds 1000; give whole numbers from 999 down to 0"),
        ({"timesteps": [10, -1]}, "timesteps holds -1"),
        ({"timesteps": [10.5, 1]}, "timesteps holds 10.5"),
        ({"timesteps": [True, 0]}, "timesteps holds True"),
        ({"timesteps": [1, 10]}, "timesteps holds 10 after 1; they must fall strictly"),
        ({"timesteps": [10, 10]}, "timesteps holds 10 after 10"),
        ({"timesteps": [10, 1], "num_inference_steps": 2}, "leave out num_inference_steps"),
        ({"timesteps": [10, 1], "preset": "fast"}, "leave out preset"),
        ({"timesteps": [3, 2, 1], "options": PnPOptions(steps=10, inversion_steps=40)},
         "timesteps are too close to cut each step into 4 of inversion"),
    ],
)  # fmt: skip
def test_schedules_that_cannot_be_used(
    load: Any, tiny_model: Path, values: dict[str, Any], message: str
) -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match=re.escape(message)):
        load(tiny_model)("a stone", frames, **values)
