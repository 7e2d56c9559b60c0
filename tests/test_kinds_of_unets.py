"""UNets of other shapes than Stable Diffusion's: distilled ones that take the guidance scale as an
input, ones without a middle, compiled ones, and ones that need more than texts.
"""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from models import random_controlnet, save_tiny_sdxl, tiny_unet
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

STEPS = 2
SCALE = 4.5
FRAMES = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 16 + 6 * 4,
    "cross_attention_dim": 32,
}
SMALL = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
}


@pytest.fixture(scope="module")
def parts(
    load: Callable[..., PnPVideoPipeline], tiny_model: Any, tmp_path_factory: Any
) -> dict[str, dict[str, Any]]:
    """By kind: the parts of a model in float64, without its UNet."""
    xl = save_tiny_sdxl(tmp_path_factory.mktemp("xl"))
    found = {}
    for kind, folder in {"sd": tiny_model, "xl": xl}.items():
        loaded = load(folder, torch.float64)
        names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
        found[kind] = {name: getattr(loaded, name) for name in names}
        # diffusers computes the levels in the table's precision.
        scheduler = found[kind]["scheduler"] = deepcopy(loaded.scheduler)
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return found


def unet_of(**config: Any) -> Any:
    torch.manual_seed(3)
    return tiny_unet(**config).double().eval()


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ours(parts: dict[str, Any], unet: Any, **more: Any) -> PnPVideoPipeline:
    return quiet(PnPVideoPipeline(**parts, unet=unet, **more))


def theirs(parts: dict[str, Any], unet: Any, **more: Any) -> Any:
    """diffusers' own pipeline of the same parts."""
    if parts["text_encoder_2"] is not None:
        kind = diffusers.StableDiffusionXLPipeline
        return quiet(kind(**parts, unet=unet, force_zeros_for_empty_prompt=False, **more))
    given = {name: part for name, part in parts.items() if not name.endswith("_2")}
    extra = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    controlled = "controlnet" in more
    kind = diffusers.StableDiffusionControlNetPipeline if controlled else None
    return quiet((kind or diffusers.StableDiffusionPipeline)(**given, unet=unet, **extra, **more))


def call(pipeline: PnPVideoPipeline, **options: Any) -> Any:
    settings = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "output_type": "latent"}
    settings |= {"tau_f": 0.0, "tau_a": 0.0, "height": 16, "width": 16} | options
    return pipeline("a red star", FRAMES, **settings)


def sampled_by_diffusers(pipeline: Any, noise: Tensor, **options: Any) -> Tensor:
    settings = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "output_type": "latent"}
    settings |= {"height": 16, "width": 16} | options
    return torch.cat(
        [pipeline("a red star", latents=latents[None], **settings).images for latents in noise]
    )


KINDS = {
    "distilled": ("sd", {"time_cond_proj_dim": 12}),
    "distilled XL": ("xl", XL | {"time_cond_proj_dim": 12}),
    "without a middle": ("sd", SMALL | {"mid_block_type": None}),
    "a middle without attention": ("sd", {"mid_block_type": "UNetMidBlock2D"}),
    "one layer in a level": ("sd", SMALL | {"mid_block_type": None, "layers_per_block": 1}),
    "XL without a middle": ("xl", XL | {"mid_block_type": None}),
    "distilled without a middle": ("sd", {"mid_block_type": None, "time_cond_proj_dim": 7}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_samples_as_diffusers_does(parts: dict[str, Any], kind: str) -> None:
    family, config = KINDS[kind]
    unet = unet_of(**config)
    output = call(ours(parts[family], unet))
    expected = sampled_by_diffusers(theirs(parts[family], unet), output.trajectory.noise)
    torch.testing.assert_close(output.frames[0], expected, rtol=1e-9, atol=1e-9)


def test_it_follows_a_controlnet_as_in_diffusers(parts: dict[str, Any]) -> None:
    """diffusers gives the guidance scale to the UNet alone."""
    unet = unet_of(time_cond_proj_dim=12)
    controlnet = random_controlnet(unet_of(), channels=(4, 8, 8)).double()
    pictures = 255 - FRAMES
    output = call(ours(parts["sd"], unet, controlnet=controlnet), control_image=pictures)
    pipeline = theirs(parts["sd"], unet, controlnet=controlnet)
    for latents, frame, picture in zip(
        output.trajectory.noise, output.frames[0], pictures, strict=True
    ):
        shown = torch.from_numpy(picture).double().movedim(-1, 0)[None] / 255
        expected = sampled_by_diffusers(pipeline, latents[None], image=shown)
        torch.testing.assert_close(frame[None], expected, rtol=1e-9, atol=1e-9)


def test_a_source_of_its_own_is_as_diffusers_samples_it(parts: dict[str, Any]) -> None:
    unet, seed = unet_of(time_cond_proj_dim=12), torch.Generator().manual_seed(1)
    output = ours(parts["sd"], unet)(
        "a moon", guidance_prompt="a red star", num_inference_steps=STEPS, guidance_scale=SCALE,
        height=16, width=16, generator=seed, output_type="latent",
    )  # fmt: skip
    expected = sampled_by_diffusers(theirs(parts["sd"], unet), output.trajectory.noise)
    torch.testing.assert_close(output.trajectory.clean, expected, rtol=1e-9, atol=1e-9)


def test_the_source_is_inverted_and_read_without_guidance(parts: dict[str, Any]) -> None:
    """The embedding of w = 0 (a scale of 1) is sines and cosines of zeros, for the source's rows;
    the target's have the scale in the interval of guidance alone."""
    unet = unet_of(time_cond_proj_dim=12)
    pipeline, seen = ours(parts["sd"], unet), []
    hook = unet.time_embedding.cond_proj.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].clone())
    )
    strong = call(pipeline, tau_f=1.0, tau_a=1.0, guidance_end=0.5).trajectory.noise
    hook.remove()
    none = torch.tensor([0.0] * 6 + [1.0] * 6, dtype=torch.float64)
    embed = theirs(parts["sd"], unet).get_guidance_scale_embedding
    (scaled,) = embed(torch.tensor([SCALE - 1]), 12).double()
    inverted, (guided, free) = seen[:STEPS], seen[STEPS:]
    for rows in inverted:
        assert torch.equal(rows, none[None])
    assert torch.equal(guided, torch.stack([none, scaled]))
    assert torch.equal(free, none.expand(2, -1))
    # So the inversion does not depend on the scale, and the result does.
    weak = call(pipeline, guidance_scale=1.0)
    assert torch.equal(weak.trajectory.noise, strong)
    assert not torch.allclose(weak.frames, call(pipeline).frames)


def test_negative_prompts_have_no_effect_and_it_is_said(
    parts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = ours(parts["sd"], unet_of(time_cond_proj_dim=12))
    expected = call(pipeline).frames
    assert not caplog.records
    for negatives in ("a moon", ["a moon"]):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            given = call(pipeline, negative_prompt=negatives, negative_schedule="linear").frames
        assert torch.equal(given, expected)
        (record,) = caplog.records
        assert "negative_prompt has no effect with this model" in record.getMessage()


def test_a_callback_sees_what_diffusers_shows(parts: dict[str, Any]) -> None:
    unet, shapes = unet_of(time_cond_proj_dim=12), []

    def look(pipeline: Any, step: int, timestep: Any, given: dict[str, Tensor]) -> dict[str, Any]:
        shapes.append(tuple(given["prompt_embeds"].shape))
        return {"prompt_embeds": given["prompt_embeds"]}

    options = {"callback_on_step_end": look}
    options["callback_on_step_end_tensor_inputs"] = ["latents", "prompt_embeds"]
    output = call(ours(parts["sd"], unet), **options)
    expected = sampled_by_diffusers(theirs(parts["sd"], unet), output.trajectory.noise, **options)
    torch.testing.assert_close(output.frames[0], expected, rtol=1e-9, atol=1e-9)
    assert len(set(shapes)) == 1


@pytest.mark.parametrize("kind", ["distilled", "distilled without a middle"])
def test_a_source_under_its_own_prompt_is_repeated(parts: dict[str, Any], kind: str) -> None:
    family, config = KINDS[kind]
    output = ours(parts[family], unet_of(**config))(
        "a red star", guidance_prompt="a red star", num_inference_steps=STEPS, guidance_scale=1.0,
        tau_f=1.0, tau_a=1.0, height=16, width=16, output_type="latent",
    )  # fmt: skip
    torch.testing.assert_close(output.frames[0], output.trajectory.clean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sharing", ["extended", "propagate"])
def test_frames_share_attention_without_a_middle(parts: dict[str, Any], sharing: str) -> None:
    """Equal frames with equal noise stay equal."""
    pipeline = ours(parts["sd"], unet_of(**KINDS["without a middle"][1]))
    same = np.repeat(FRAMES[:1], 3, axis=0)
    options = {"attention_sharing": sharing, "keyframe_every": 2, "keyframes": "uniform"}
    settings = {"num_inference_steps": STEPS, "height": 16, "width": 16, "output_type": "latent"}
    frames = pipeline("a star", same, tau_f=0.5, tau_a=0.5, **options, **settings).frames[0]
    alone = pipeline("a star", same[:1], tau_f=0.5, tau_a=0.5, **settings).frames[0]
    torch.testing.assert_close(frames, alone.expand(3, -1, -1, -1), rtol=1e-9, atol=1e-9)


def compiled(unet: Any) -> Any:
    return torch.compile(unet, backend="eager")


def compiled_in_place(unet: Any) -> Any:
    unet.compile(backend="eager")
    return unet


def compiled_in_parts(unet: Any) -> Any:
    unet.compile_repeated_blocks(backend="eager")
    return unet


def test_a_compiled_unet_runs_as_it_would_uncompiled(
    parts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Compiled code would not see the method's hooks. The compiler is not called here at all."""
    caplog.set_level(logging.INFO, "pnpvideo")
    unet = unet_of(**SMALL, mid_block_type=None)
    unet._repeated_blocks = ["BasicTransformerBlock"]
    half = {"tau_f": 0.5, "tau_a": 0.5}
    pipeline = ours(parts["sd"], unet)
    expected = call(pipeline, **half).frames
    for how in (compiled, compiled_in_place, compiled_in_parts):
        pipeline.unet = how(unet)
        calls = [module._compiled_call_impl for module in pipeline.unet.modules()]
        assert torch.equal(call(pipeline, **half).frames, expected)
        assert [module._compiled_call_impl for module in pipeline.unet.modules()] == calls
    line = "UNet2DConditionModel runs uncompiled here, as the method changes its layers"
    assert caplog.messages.count(line) == 1  # It is one network.
    made = ours(parts["sd"], compiled(unet))
    assert torch.equal(call(made, **half).frames, expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_class_embeds": 10}, "needs class labels"),
        ({"class_embed_type": "projection", "projection_class_embeddings_input_dim": 8}, "class l"),
        ({"class_embed_type": "identity"}, "needs class labels"),
        (XL | {"cross_attention_dim": 16}, "SDXL's, which needs a second text encoder"),
        (
            {"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 8},
            "needs text_proj in addition to texts",
        ),
        (
            {"down_block_types": ("DownBlock2D",) * 4, "up_block_types": ("UpBlock2D",) * 4},
            "no self-attention to inject into",
        ),
        (
            {
                "down_block_types": ("AttnDownBlock2D",) * 4,
                "up_block_types": ("AttnUpBlock2D",) * 4,
            },
            "no self-attention to inject into",
        ),
        ({"only_cross_attention": True}, "no self-attention to inject into"),
        ({"in_channels": 9}, "9 input and 4 output channels"),
    ],
)  # fmt: skip
def test_what_needs_more_than_texts_is_refused(
    parts: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        ours(parts["sd"], unet_of(**config))
    assert "\n" not in str(raised.value)
