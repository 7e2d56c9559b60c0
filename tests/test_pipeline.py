"""The pipeline as diffusers' users call it, with the embedded model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.errors import InputError
from pnpvideo.models.device import working_device
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.generate import generate_source
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

STEPS = 3
EMPTY = Trajectory(latents=LatentMemory(torch.zeros(2, 1, 4, 8, 8)), timesteps=(1,))
PROMPT = "a photo of a red star on sand"


@pytest.fixture(scope="module")
def pipeline(load: Callable[..., PnPVideoPipeline]) -> PnPVideoPipeline:
    return load("embedded")


def frames(count: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def run(pipeline: PnPVideoPipeline, video: object, **options: object) -> np.ndarray:
    settings = {"num_inference_steps": STEPS, "generator": seeded(), "output_type": "np"} | options
    settings.setdefault("prompt", PROMPT)
    return pipeline(video=video, width=64, height=48, **settings).frames


def test_the_forms_of_a_video_and_of_a_result_agree(pipeline: PnPVideoPipeline) -> None:
    video = frames(2)
    result = run(pipeline, video)
    assert result.shape == (1, 2, 48, 64, 3)
    assert result.min() >= 0
    assert result.max() <= 1
    images = [Image.fromarray(frame) for frame in video]
    tensor = torch.from_numpy(video).movedim(-1, 1).float() / 255
    for form in (images, tensor, video.astype(np.float32) / 255, clip_of_frames(video)):
        np.testing.assert_array_equal(run(pipeline, form), result)
    pil = run(pipeline, video, output_type="pil")
    np.testing.assert_allclose(np.asarray(pil[0][1]) / 255, result[0, 1], atol=1e-6)
    tensors = run(pipeline, video, output_type="pt")
    np.testing.assert_array_equal(tensors[0].movedim(1, -1).numpy(), result[0])


def test_one_image_is_a_clip_of_one_frame(pipeline: PnPVideoPipeline) -> None:
    video = frames(1)
    np.testing.assert_array_equal(
        run(pipeline, Image.fromarray(video[0])), run(pipeline, video)
    )  # fmt: skip


def test_frames_do_not_depend_on_their_clip(pipeline: PnPVideoPipeline) -> None:
    video = frames(3)
    whole = run(pipeline, video, batch_size=3, blend_radius=0)
    np.testing.assert_allclose(run(pipeline, video[1:2])[0, 0], whole[0, 1], atol=1 / 255)
    again = run(pipeline, video, batch_size=2, blend_radius=0)
    np.testing.assert_allclose(again, whole, atol=1 / 255)


def test_several_prompts_give_what_each_gives_alone(pipeline: PnPVideoPipeline) -> None:
    other = "a cartoon of a blue moon"
    both = run(pipeline, frames(2), prompt=[PROMPT, other])
    for i, prompt in enumerate((PROMPT, other)):
        np.testing.assert_allclose(
            run(pipeline, frames(2), prompt=prompt)[0], both[i], atol=2 / 255
        )


def test_embeddings_stand_for_texts(pipeline: PnPVideoPipeline) -> None:
    expected = run(pipeline, frames(1), negative_prompt="a sketch")
    embeds = pipeline.encode_texts([PROMPT, "a sketch"]).hidden
    result = run(
        pipeline,
        frames(1),
        prompt=None,
        prompt_embeds=embeds[:1],
        negative_prompt_embeds=embeds[1:],
    )
    np.testing.assert_array_equal(result, expected)


def test_a_saved_trajectory_serves_another_run(pipeline: PnPVideoPipeline, tmp_path: Path) -> None:
    # The motion to blend along comes from the source itself there, from its latents here.
    settings = {"num_inference_steps": STEPS, "blend_radius": 0}
    first = pipeline(PROMPT, frames(2), width=64, height=48, generator=seeded(), **settings)
    first.trajectory.save(tmp_path / "source.safetensors")
    again = pipeline(
        PROMPT,
        trajectory=Trajectory.load(tmp_path / "source.safetensors"),
        generator=seeded(),
        **settings,
    )
    for one, other in zip(first.frames[0], again.frames[0], strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    with pytest.raises(InputError, match="timesteps"):
        pipeline(PROMPT, trajectory=first.trajectory, num_inference_steps=STEPS + 1)


def test_generated_guidance_with_its_own_prompt_repeats_the_source(
    pipeline: PnPVideoPipeline,
) -> None:
    """With everything injected, the same prompt and guidance, target and source are one."""
    result = pipeline(
        PROMPT,
        guidance_prompt=PROMPT,
        width=64,
        height=64,
        num_inference_steps=STEPS,
        guidance_scale=1,
        tau_f=1,
        tau_a=1,
        feature_level=1,
        noise_share=0,
        generator=seeded(),
        output_type="latent",
    )
    options = PnPOptions(steps=STEPS, guidance_scale=1)
    source = generate_source(pipeline.model, PROMPT, (64, 64), options, seeded(), QUIET)
    for level in range(STEPS + 1):
        assert torch.equal(result.trajectory.latents[level, :], source.latents[level, :])
    torch.testing.assert_close(result.frames[0], source.clean, rtol=1e-4, atol=1e-4)


def test_shared_noise_is_one_noise_for_all_frames(pipeline: PnPVideoPipeline) -> None:
    starts = []

    def look(
        pipe: PnPVideoPipeline, step: int, timestep: int, given: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        starts.append(given["latents"])
        return {}

    video = np.repeat(frames(1), 3, axis=0)
    run(pipeline, video, noise_share=1.0, callback_on_step_end=look)
    assert len(starts) == STEPS
    for latents in starts:
        torch.testing.assert_close(latents[:, 0], latents[:, 2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["none", "extended", "propagate"])
def test_one_image_is_the_same_in_every_mode(pipeline: PnPVideoPipeline, mode: str) -> None:
    alone = run(pipeline, frames(1))
    np.testing.assert_array_equal(run(pipeline, frames(1), attention_sharing=mode), alone)


@pytest.mark.parametrize("mode", ["extended", "propagate"])
def test_frames_share_within_their_scene_only(pipeline: PnPVideoPipeline, mode: str) -> None:
    """The result of a clip does not depend on another scene before it."""
    first, second = 255 - frames(3) // 8, frames(3) // 8
    # Where all is injected, little is left that sharing could change.
    plain = {"noise_share": 0.0, "tau_f": 0.0, "tau_a": 0.0, "guidance_scale": 5.0}
    options = plain | {"attention_sharing": mode, "keyframes": "uniform", "keyframe_every": 2}
    both = run(pipeline, np.concatenate([first, second]), **options)
    alone = run(pipeline, second, **options)
    np.testing.assert_allclose(both[0, 3:], alone[0], atol=2 / 255)
    assert np.abs(alone - run(pipeline, second, **plain)).max() > 4 / 255


@pytest.mark.parametrize("source", ["gaussian", "keyframe"])
def test_noise_moves_with_or_without_the_clip(pipeline: PnPVideoPipeline, source: str) -> None:
    video = np.stack([np.roll(frames(1)[0].repeat(4, 0)[:48], 8 * i, axis=1) for i in range(3)])
    options = {"noise_share": 1.0, "noise_source": source}
    result = pipeline(
        PROMPT,
        video,
        width=64,
        height=48,
        num_inference_steps=STEPS,
        generator=seeded(),
        noise_motion=True,
        output_type="latent",
        **options,
    )
    still = run(pipeline, video, output_type="latent", **options)
    assert not torch.allclose(result.frames, still)
    # Without the clip the motion is that of the decoded trajectory.
    again = pipeline(
        PROMPT,
        trajectory=result.trajectory,
        num_inference_steps=STEPS,
        generator=seeded(),
        noise_motion=True,
        output_type="latent",
        **options,
    )
    assert again.frames.shape == result.frames.shape
    assert not torch.allclose(again.frames, still)


def test_offloaded_it_works_where_the_hooks_put_it(
    pipeline: PnPVideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU the parts can only be moved from "cpu" to "cpu:0", which torch tells apart."""
    expected, moved = run(pipeline, frames(2)), []
    to = torch.nn.Module.to

    def count(module: torch.nn.Module, *args: object, **options: object) -> torch.nn.Module:
        moved.append((type(module), *args))
        return to(module, *args, **options)

    pipeline.enable_model_cpu_offload(device="cpu")
    try:
        place = torch.device("cpu:0")
        assert working_device(pipeline.unet) == working_device(pipeline.vae) == place
        monkeypatch.setattr(torch.nn.Module, "to", count)
        np.testing.assert_array_equal(run(pipeline, frames(2)), expected)
        for part in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
            assert (type(part), place) in moved
    finally:
        monkeypatch.undo()
        pipeline.remove_all_hooks()
    assert working_device(pipeline.unet) == torch.device("cpu")


def test_the_callback_may_replace_latents(pipeline: PnPVideoPipeline) -> None:
    def blank(
        pipe: PnPVideoPipeline, step: int, timestep: int, given: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return {"latents": torch.zeros_like(given["latents"])}

    result = run(pipeline, frames(1), callback_on_step_end=blank, output_type="latent")
    assert not result.any()


def test_a_saved_pipeline_loads_again(pipeline: PnPVideoPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    again = PnPVideoPipeline.from_pretrained(str(tmp_path), torch_dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    assert again.model_options == pipeline.model_options
    assert again.layers == pipeline.layers
    np.testing.assert_allclose(run(again, frames(1)), run(pipeline, frames(1)), atol=1 / 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": None}, "either a prompt"),
        ({"trajectory": EMPTY}, "one of"),
        ({"output_type": "gif"}, "output_type"),
        ({"batch_size": 0}, "batch_size"),
        ({"negative_prompt": ["a", "b", "c"]}, "3 negative prompts for 1"),
        ({"tau_f": 1.5}, "tau_f is 1.5"),
        ({"attention_sharing": "all"}, "attention_sharing is 'all'"),
        ({"tauf": 0.5}, "there is no option tauf; did you mean tau_f"),
        ({"num_inference_step": 4}, "did you mean num_inference_steps"),
        ({"negativ_prompt": "x"}, "did you mean negative_prompt"),
        ({"num_inference_steps": 0}, "steps is 0"),
        ({"num_inversion_steps": 4}, "multiple"),
        (
            {"callback_on_step_end_tensor_inputs": ["noise"]},
            "may not hold 'noise'; give some of latents",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    pipeline: PnPVideoPipeline, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(pipeline, frames(1), **options)


LONE = "a photo of a \ud83d star"
EMBEDS = torch.zeros(1, 77, 64)
OTHER = Trajectory(latents=LatentMemory(torch.zeros(STEPS + 1, 1, 16, 6, 8)), timesteps=(9, 5, 1))
VALUES: list[tuple[dict[str, object], str]] = [
    ({"options": {"tau_f": 0.5}}, "options is .*; give PnPOptions, such as"),
    ({"callback_on_step_end": 5}, "callback_on_step_end is 5; give a function"),
    ({"callback_on_step_end_tensor_inputs": 5}, "tensor_inputs is 5; give a list of some of lat"),
    ({"callback_on_step_end_tensor_inputs": "latents"}, "tensor_inputs is 'latents'; give a list"),
    ({"cross_attention_kwargs": {"scale": "a"}}, "cross_attention_kwargs has scale 'a'; give a n"),
    ({"prompt": None, "prompt_embeds": EMBEDS[..., :5]}, "text embeddings are 77 x 5, and this"),
    ({"prompt": None, "prompt_embeds": EMBEDS[0]}, r"give a tensor \(prompts, tokens, channels\)"),
    ({"prompt": None, "prompt_embeds": EMBEDS[:0]}, r"prompt_embeds is a tensor of shape \(0, 77"),
    ({"prompt": None, "prompt_embeds": EMBEDS * np.nan}, r"prompt_embeds has values .* \(NaN\)"),
    ({"prompt": None, "prompt_embeds": EMBEDS.to("meta")}, "prompt_embeds is on the device meta"),
    ({"prompt": None, "prompt_embeds": EMBEDS.to_sparse()}, "prompt_embeds is sparse or quantized"),
    ({"negative_prompt_embeds": EMBEDS[..., :5]}, "text embeddings are 77 x 5, and this"),
    ({"image": torch.zeros(3, 48, 64, device="meta")}, "is on the device meta, without values"),
    ({"image": torch.zeros(3, 48, 64).to_sparse()}, "sparse or quantized; give tensor.to_dense"),
    ({"mask": torch.zeros(48, 64).to_sparse()}, "sparse or quantized; give tensor.to_dense"),
    ({"trajectory": OTHER}, r"the trajectory has latents of shape \(1, 16, 6, 8\), and this model"),
    ({"prompt": LONE}, "has a character that is not text"),
    ({"prompt": [PROMPT, LONE]}, "has a character that is not text"),
    ({"negative_prompt": LONE}, "has a character that is not text"),
    ({"inversion_prompt": LONE}, "has a character that is not text"),
    ({"guidance_prompt": LONE}, "has a character that is not text"),
]


@pytest.mark.parametrize(("values", "message"), VALUES)
def test_values_of_a_wrong_kind_are_named(
    pipeline: PnPVideoPipeline, values: dict[str, object], message: str
) -> None:
    other = values.keys() & {"image", "trajectory", "guidance_prompt"}
    with pytest.raises(InputError, match=message) as refused:
        run(pipeline, None if other else frames(1), **values)
    assert "\n" not in str(refused.value)


def test_a_trajectory_of_a_run_that_has_ended(pipeline: PnPVideoPipeline, tmp_path: Path) -> None:
    with JobFolder(tmp_path) as job:
        call = {"num_inference_steps": STEPS, "generator": seeded(), "job": job}
        kept = pipeline(PROMPT, frames(1), width=64, height=48, **call).trajectory
    with pytest.raises(InputError, match="is not open; use it within"):
        pipeline(PROMPT, frames(1), width=64, height=48, **call)
    kept.close()
    with pytest.raises(InputError, match="the trajectory is closed, as its run has ended"):
        pipeline(PROMPT, trajectory=kept, num_inference_steps=STEPS)


RETURNED: list[tuple[Callable[[torch.Tensor], object], str]] = [
    (lambda latents: 5, "callback_on_step_end returned 5; give a dict of tensors"),
    (lambda latents: latents, "callback_on_step_end returned tensor.*; give a dict"),
    (lambda latents: {"latents": None}, "returned a NoneType as latents; give a tensor"),
    (lambda latents: {"latents": 0.5}, "returned a float as latents; give a tensor"),
    (lambda latents: {"latents": latents.numpy()}, "returned a ndarray as latents; give a tensor"),
    (
        lambda latents: {"latents": latents[0]},
        r"of shape \(1, 8, 6, 8\); give \(1, 1, 8",
    ),
    (lambda latents: {"latents": latents.to_sparse()}, "latents of callback_on_step_end is sparse"),
    (lambda latents: {"latents": latents * np.nan}, r"returned latents with .* \(NaN\)"),
    (lambda latents: (latents.fill_(np.inf), None)[1], r"returned latents with .* \(NaN\)"),
    (lambda latents: {"prompt_embeds": None}, "returned a NoneType as prompt_embeds"),
    (
        lambda latents: {"prompt_embeds": EMBEDS[..., :5]},
        r"prompt_embeds of shape \(1, 77, 5\)",
    ),
    (lambda latents: {"negative_prompt_embeds": "a"}, "returned a str as negative_prompt_embeds"),
    (lambda latents: {"add_text_embeds": EMBEDS[0]}, "add_text_embeds, which this model does not"),
]


@pytest.mark.parametrize(("act", "message"), RETURNED)
def test_what_a_callback_returns_is_checked(
    pipeline: PnPVideoPipeline, act: Callable[[torch.Tensor], object], message: str
) -> None:
    def after(pipe: object, step: int, when: object, given: dict[str, torch.Tensor]) -> object:
        return act(given["latents"])

    with pytest.raises(InputError, match=message) as refused:
        run(pipeline, frames(1), callback_on_step_end=after)
    assert "\n" not in str(refused.value)


def test_forms_that_are_the_same(pipeline: PnPVideoPipeline) -> None:
    """None for no inversion prompt, embeddings with gradients, latents of another precision."""
    plain = run(pipeline, frames(1))
    own = torch.nn.Parameter(pipeline.encode_texts([PROMPT]).hidden)
    for same in (
        {"inversion_prompt": None},
        {"prompt": None, "prompt_embeds": own},
        {"callback_on_step_end": lambda *given: {"latents": given[-1]["latents"].double()}},
    ):
        np.testing.assert_array_equal(run(pipeline, frames(1), **same), plain)


def test_options_may_come_together(pipeline: PnPVideoPipeline) -> None:
    """options replace the model's own, a preset cuts their steps, single changes win over both."""
    assert pipeline.model_options.steps != STEPS
    changes = {"tau_f": 0.5, "guidance_scale": 3.0}
    expected = run(pipeline, frames(1), **changes)
    together = pipeline.model_options.override({"steps": STEPS * 10, **changes})
    np.testing.assert_array_equal(
        pipeline(
            PROMPT, frames(1), options=together, width=64, height=48, num_inference_steps=STEPS,
            generator=seeded(), output_type="np", tau_f=None,
        ).frames,
        expected,
    )  # fmt: skip
    with pytest.raises(InputError, match="preset is 'quick'; give fast, balanced or best"):
        run(pipeline, frames(1), preset="quick")


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 5), (0, 8, 8, 3)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        as_clip(np.zeros(shape, dtype=np.uint8))
