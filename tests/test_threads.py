"""Threads that share a model, or a part of one, take turns, and get what each gets alone."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import save_frames
from diffusers import StableDiffusionPipeline
from models import save_lora

import pnpvideo
from pnpvideo.loading.load import load_model
from pnpvideo.models.turns import turn
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
PROMPTS = ("a red star", "a blue moon", "a stone cat")


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of functions that begin together, each in a thread of its own."""
    results: list[Any] = [None] * len(works)
    begin = threading.Barrier(len(works))

    def run(number: int) -> None:
        begin.wait()
        try:
            results[number] = works[number]()
        except BaseException as error:  # The comparison shows it.
            results[number] = error

    threads = [
        threading.Thread(target=run, args=[number], daemon=True) for number in range(len(works))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def latents_of(pipeline: PnPVideoPipeline, prompt: str, **options: Any) -> torch.Tensor:
    settings = {"num_inference_steps": 2, "output_type": "latent", "height": 16, "width": 16}
    settings |= {"generator": torch.Generator().manual_seed(1), "tau_f": 0.5, "tau_a": 0.5}
    frames: torch.Tensor = pipeline(prompt, **{"video": FRAMES[:1]} | settings | options).frames
    return frames


def assert_untouched(pipeline: PnPVideoPipeline, processors: dict[str, Any]) -> None:
    assert pipeline.unet.attn_processors == processors
    for module in pipeline.unet.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_pipelines_that_share_parts(pipeline: PnPVideoPipeline) -> None:
    """One pipeline twice, one of all its parts, one of its UNet alone, and one of diffusers."""
    whole = quiet(PnPVideoPipeline.from_pipe(pipeline))
    others = {"vae": whole.vae, "unet": whole.unet, "scheduler": whole.scheduler}
    partly = quiet(PnPVideoPipeline(**{**whole.components, **others}))
    stock = quiet(StableDiffusionPipeline.from_pipe(pipeline, requires_safety_checker=False))
    noise = torch.randn(1, 4, 4, 4)

    def by_diffusers() -> torch.Tensor:
        made: torch.Tensor = stock(
            PROMPTS[0], latents=noise, num_inference_steps=6, height=16, width=16,
            output_type="latent",
        ).images  # fmt: skip
        return made

    sharing = {"attention_sharing": "extended", "keyframe_every": 1}
    works = [
        lambda: latents_of(pipeline, PROMPTS[0]),
        lambda: latents_of(pipeline, PROMPTS[1], guidance_scale=1.0),
        lambda: latents_of(whole, PROMPTS[2], video=FRAMES, **sharing),
        lambda: latents_of(partly, PROMPTS[0], tau_f=1.0),
        by_diffusers,
    ]
    processors = pipeline.unet.attn_processors
    expected = [work() for work in works]
    for result, alone in zip(at_once(works), expected, strict=True):
        assert torch.equal(result, alone)
    assert_untouched(pipeline, processors)


def test_a_run_of_files_and_a_call(tiny_model: Path, tmp_path: Path) -> None:
    """As those of the web page's queue; a call scales a LoRA for itself alone."""
    pipeline = quiet(PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32))
    layer = "up_blocks_2_attentions_1_transformer_blocks_0_attn1_to_q"
    weights = {"down": torch.randn(2, 16), "up": torch.randn(16, 2)}
    named = {f"lora_unet_{layer}.lora_{name}.weight": x for name, x in weights.items()}
    pipeline.load_lora_weights(save_lora(named, tmp_path / "style.safetensors"))
    source = str(save_frames(tmp_path, 1)[0])

    def run(name: str) -> bytes:
        made = pnpvideo.translate(
            source, PROMPTS[0], pipeline=pipeline, output=str(tmp_path / name), steps=2, quiet=True
        )
        return made.outputs[0].read_bytes()

    def scaled() -> torch.Tensor:
        return latents_of(pipeline, PROMPTS[1], cross_attention_kwargs={"scale": 0.25})

    expected = run("alone.png"), scaled()
    first, second, third = at_once([lambda: run("a.png"), scaled, lambda: run("b.png")])
    assert first == third == expected[0]
    assert torch.equal(second, expected[1])


def test_what_a_call_says_is_its_own(pipeline: PnPVideoPipeline) -> None:
    """Stopping one call stops no other, and each reads its own guidance scale."""
    seen: dict[str, list[float]] = {"stopped": [], "whole": []}

    def call(name: str, scale: float) -> torch.Tensor:
        def look(called: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
            seen[name].append(called.guidance_scale)
            called._interrupt = name == "stopped"
            return given

        return latents_of(pipeline, PROMPTS[0], guidance_scale=scale, callback_on_step_end=look)

    at_once([lambda: call("stopped", 2.0), lambda: call("whole", 3.0)])
    assert seen == {"stopped": [2.0], "whole": [3.0, 3.0]}


def test_turns_do_not_block_one_another() -> None:
    """Threads that take the same parts in different orders, again within, and other parts."""
    parts = [torch.nn.Linear(1, 1) for _ in range(3)]
    inside, most = [0], [0]

    def take(first: int, step: int) -> bool:
        for _ in range(50):
            own = [parts[first], None, parts[(first + step) % 3], parts[first]]
            with turn(*own, parts[0]), turn(parts[first]):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1
        return True

    works = [lambda f=f, s=s: take(f, s) for f in range(3) for s in (1, 2)]
    assert at_once(works) == [True] * 6
    assert most == [1]

    with turn(parts[0]):
        (free,) = at_once([lambda: take_once(parts[1])])
    assert free


def take_once(part: Any) -> bool:
    with turn(part):
        return True


def test_a_call_waits_for_no_thread_of_its_own(pipeline: PnPVideoPipeline) -> None:
    """Frames of a trajectory are decoded by the model while a call has its turn."""

    def again() -> int:
        settings = {"num_inference_steps": 2, "blend_radius": 1, "attention_sharing": "extended"}
        made = pipeline("a stone", video=FRAMES, height=16, width=16, **settings)
        return len(pipeline("a star", trajectory=made.trajectory, **settings).frames)

    assert at_once([again]) == [1]


def test_models_are_loaded_one_after_the_other(tiny_model: Path) -> None:
    """Libraries that load weights change the precision of the whole process meanwhile."""

    def load(dtype: torch.dtype) -> list[torch.dtype]:
        loaded = load_model(tiny_model, dtype=dtype).components
        return [loaded[name].dtype for name in ("unet", "vae", "text_encoder")]

    precisions = [torch.float32, torch.float16, torch.bfloat16]
    results = at_once([lambda dtype=dtype: load(dtype) for dtype in precisions])
    assert results == [[dtype] * 3 for dtype in precisions]
    assert torch.get_default_dtype() == torch.float32
