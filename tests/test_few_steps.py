"""Few steps without guidance from an inversion of more (docs/few-steps.md)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from models import save_lora

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

LAYER = "up_blocks_2_attentions_1_transformer_blocks_0_attn1_to_q"
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


def call(pipeline: Any, **options: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 4, "guidance_scale": 1, "output_type": "latent"} | options
    return pipeline("a star", FRAMES, height=16, width=16, **settings)


def with_lora(model: Path, folder: Path) -> PnPVideoPipeline:
    file = {
        f"lora_unet_{LAYER}.lora_{name}.weight": torch.randn(shape)
        for name, shape in (("down", (2, 16)), ("up", (16, 2)))
    }
    path = save_lora(file, folder / "few-steps.safetensors")
    return PnPVideoPipeline.from_pretrained(model, dtype=torch.float32, loras=[path])


def test_the_passes_of_a_run(tiny_model: Path, tmp_path: Path) -> None:
    """Six for each of the three distances between noise levels and one from the clean end, then
    the 4 of sampling, the first two with the source beside."""
    pipeline, seen = with_lora(tiny_model, tmp_path), []
    pipeline.unet.conv_in.register_forward_hook(lambda _, given, out: seen.append(len(given[0])))
    call(pipeline, num_inversion_steps=24, tau_f=0.5, tau_a=0.5)
    assert seen == [2] * 19 + [4, 4, 2, 2]


def test_a_finer_inversion_nears_the_exact_one(tiny_model: Path, tmp_path: Path) -> None:
    pipeline = with_lora(tiny_model, tmp_path)
    coarse, finer, exact = (
        call(pipeline, num_inversion_steps=count).trajectory for count in (4, 12, 48)
    )
    assert coarse.timesteps == finer.timesteps == exact.timesteps
    errors = [float((one.noise - exact.noise).abs().mean()) for one in (coarse, finer)]
    assert errors[1] < errors[0] / 1.5


def test_another_spacing_begins_at_the_end(tiny_model: Path, tmp_path: Path) -> None:
    pipeline = with_lora(tiny_model, tmp_path)
    assert call(pipeline).trajectory.timesteps == (751, 501, 251, 1)
    config = pipeline.scheduler.config
    pipeline.scheduler = DDIMScheduler.from_config(config, timestep_spacing="trailing")
    assert call(pipeline).trajectory.timesteps == (999, 749, 499, 249)


def test_as_a_custom_pipeline_of_diffusers(
    tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """By a file that names it, diffusers' own loader makes it."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path))
    (tmp_path / "pipeline.py").write_text("from pnpvideo import PnPVideoPipeline\n")
    loaded = DiffusionPipeline.from_pretrained(
        tiny_model, custom_pipeline=str(tmp_path), trust_remote_code=True
    )
    assert type(loaded) is PnPVideoPipeline
    ours = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    torch.testing.assert_close(call(loaded).frames, call(ours).frames)
    # And of it a pipeline of diffusers, and back.
    assert PnPVideoPipeline.from_pipe(loaded).unet is loaded.unet
