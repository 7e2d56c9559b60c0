"""The habits of diffusers' users, with our pipelines: they work in the same way."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback
from models import save_checkpoint, save_tiny_sdxl
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.loading.load import load_model
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.sampling.guidance import rescale
from pnpvideo.stages.prompts import embed_prompts, embed_source_prompt
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder

KINDS = {"sd": StableDiffusionPipeline, "xl": StableDiffusionXLPipeline}
STEPS = 2
STAR, MOON = "a photo of a red star", "a cartoon of a blue moon"


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"sd": tiny_model, "xl": save_tiny_sdxl(tmp_path_factory.mktemp("xl"))}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Loaded = dict[str, tuple[PnPVideoPipeline, Any]]


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> Loaded:
    """By kind, our pipeline and diffusers' own; tests take copies."""
    return {
        kind: (quiet(PnPVideoPipeline.from_pretrained(folder, dtype=torch.float32)),
               stock_of(folder, kind))
        for kind, folder in folders.items()
    }  # fmt: skip


@pytest.fixture
def stock(loaded: Loaded, kind: str) -> Any:
    return deepcopy(loaded[kind][1])


@pytest.fixture
def pipeline(loaded: Loaded, kind: str) -> PnPVideoPipeline:
    return deepcopy(loaded[kind][0])


@pytest.fixture
def sd(loaded: Loaded) -> PnPVideoPipeline:
    return deepcopy(loaded["sd"][0])


def stock_of(folder: Path, kind: str) -> Any:
    return quiet(KINDS[kind].from_pretrained(folder))


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents_of(pipeline: PnPVideoPipeline, prompt: Any = STAR, **options: Any) -> Tensor:
    """Of two small frames: (prompts, frames, c, h, w)."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    settings = {"num_inference_steps": STEPS, "output_type": "latent", "tau_f": 0.5, "tau_a": 0.5}
    settings |= {"generator": torch.Generator().manual_seed(4)} | options
    if prompt is not None:
        settings["prompt"] = prompt
    return pipeline(video=frames, height=16, width=16, **settings).frames


# Made, saved and loaded


def test_made_of_another_pipelines_parts(stock: Any, pipeline: PnPVideoPipeline) -> None:
    expected = latents_of(pipeline)
    for made in (
        PnPVideoPipeline.from_pipe(stock),
        PnPVideoPipeline(**stock.components, **zeros_of(stock)),
    ):
        assert made.unet is stock.unet
        assert made.config.force_zeros_for_empty_prompt == (made.text_encoder_2 is not None)
        torch.testing.assert_close(latents_of(quiet(made)), expected, rtol=1e-3, atol=1e-3)
    # And back.
    assert type(stock).from_pipe(made).vae is stock.vae


def zeros_of(stock: Any) -> dict[str, bool]:
    name = "force_zeros_for_empty_prompt"
    return {name: stock.config[name]} if name in stock.config else {}


def test_a_saved_folder_is_one_of_diffusers(pipeline: PnPVideoPipeline, tmp_path: Path) -> None:
    pipeline.model_options = pipeline.model_options.override({"steps": 7, "noise_share": 0.25})
    pipeline.save_pretrained(tmp_path)
    expected = latents_of(pipeline)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded) in KINDS.values()
    for part in ("unet", "vae", "text_encoder"):
        weights = getattr(pipeline, part).state_dict()
        for name, value in getattr(loaded, part).state_dict().items():
            assert torch.equal(value, weights[name])
    for again in (PnPVideoPipeline.from_pipe(loaded), PnPVideoPipeline.from_pretrained(tmp_path)):
        assert again.model_options == pipeline.model_options
        assert again.layers == pipeline.layers
        assert PnPVideoPipeline.from_pipe(again).model_options == pipeline.model_options
        torch.testing.assert_close(latents_of(quiet(again)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_either_name_of_the_dtype(
    tiny_model: Path, name: str, recwarn: pytest.WarningsRecorder
) -> None:
    loaded = PnPVideoPipeline.from_pretrained(
        tiny_model, **{name: torch.bfloat16}, safety_checker=None, use_safetensors=True
    )
    assert loaded.dtype == loaded.unet.dtype == torch.bfloat16
    assert not [w for w in recwarn if "dtype" in str(w.message)]


def test_a_single_file(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its path, or by the link of the hub's page, of which the cache has a copy."""
    kept = tmp_path / "models--owner--name"
    snapshot = kept / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    parts = load_model(tiny_model).components
    path = save_checkpoint(parts, snapshot / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    link = "https://huggingface.co/owner/name/blob/main/model.safetensors"
    for given in (path, str(path), link):
        loaded = PnPVideoPipeline.from_single_file(
            given, config=tiny_model, dtype=torch.float32, cache_dir=tmp_path
        )
        assert torch.equal(loaded.unet.conv_in.weight, parts["unet"].conv_in.weight)
    for wrong in (tmp_path / "none.safetensors", tiny_model, "owner/name"):
        with pytest.raises(InputError, match="there is no checkpoint"):
            PnPVideoPipeline.from_single_file(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: setattr(p, "scheduler", euler(p)),
            "EulerDiscreteScheduler is not a DDIMScheduler",
        ),
        (lambda p: again(p, text_encoder=None), "no first text encoder; give a whole model"),
        (lambda p: PnPVideoPipeline.from_pretrained(scheduler=euler(p)), "is not a DDIMScheduler"),
        (lambda p: PnPVideoPipeline.from_pretrained(dtype="half"), "dtype is 'half'"),
        (lambda p: PnPVideoPipeline.from_pretrained(use_safetensors=False), "use_safetensors is F"),
    ],
)
def test_what_cannot_be_used_is_refused(
    sd: PnPVideoPipeline, change: Callable[[PnPVideoPipeline], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        change(sd)


def euler(pipeline: PnPVideoPipeline) -> Any:
    return diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)


def again(pipeline: PnPVideoPipeline, **parts: object) -> PnPVideoPipeline:
    return PnPVideoPipeline(**{**pipeline.components, **parts})


# Changed in place


def test_another_scheduler_is_used(pipeline: PnPVideoPipeline) -> None:
    before = latents_of(pipeline)
    spaced = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    pipeline.scheduler = spaced
    assert pipeline.schedule(pipeline.model_options).timesteps[0] == 999
    assert not torch.equal(latents_of(pipeline), before)


def test_slices_and_tiles(sd: PnPVideoPipeline) -> None:
    whole = latents_of(sd)
    for name in ("slicing", "tiling"):
        getattr(sd, f"enable_vae_{name}")()
        assert getattr(sd.vae, f"use_{name}")
        # A trajectory in half precision rounds what differs by rounding to another number.
        torch.testing.assert_close(latents_of(sd), whole, rtol=1e-3, atol=2e-3)
        getattr(sd, f"disable_vae_{name}")()
        assert not getattr(sd.vae, f"use_{name}")


def test_the_bars_words(pipeline: PnPVideoPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.set_progress_bar_config(desc="my bar", unit="x")
    latents_of(pipeline)
    assert "my bar" in capsys.readouterr().err


# LoRA


def lora_layers(parts: Any, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    for name in names:
        part = getattr(parts, name)
        layers = ["to_q", "to_out.0"] if name == "unet" else ["q_proj", "fc1"]
        part.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=layers))
        state = get_peft_model_state_dict(part)
        yield name, {key: torch.randn_like(value) for key, value in state.items()}


def test_lora(loaded: Loaded, kind: str, tmp_path: Path) -> None:
    """Loaded with a weight, fused and unloaded: as if the products were added to the weights."""
    names = ("unet", "text_encoder", *(("text_encoder_2",) if kind == "xl" else ()))
    layers = dict(lora_layers(deepcopy(loaded[kind][1]), names))
    PnPVideoPipeline.save_lora_weights(
        tmp_path, **{f"{name}_lora_layers": state for name, state in layers.items()}
    )
    added = deepcopy(loaded[kind][0])
    for name, state in layers.items():
        for key, down in state.items():
            if "lora_A" in key:
                weight = getattr(added, name).get_submodule(key.split(".lora_A")[0]).weight
                weight.data += 0.5 * state[key.replace("lora_A", "lora_B")] @ down
    # A trajectory in half precision rounds what differs by rounding to another number.
    latents = partial(latents_of, storage=Storage(precision="full"))
    expected = latents(added)

    pipeline = deepcopy(loaded[kind][0])
    plain = latents(pipeline)
    assert not torch.allclose(plain, expected, atol=1e-2)
    pipeline.load_lora_weights(tmp_path, adapter_name="style")
    pipeline.set_adapters("style", adapter_weights=0.5)
    torch.testing.assert_close(latents(pipeline), expected, rtol=1e-3, atol=5e-3)
    pipeline.fuse_lora()
    torch.testing.assert_close(latents(pipeline), expected, rtol=1e-3, atol=5e-3)
    pipeline.unfuse_lora()
    pipeline.unload_lora_weights()
    torch.testing.assert_close(latents(pipeline), plain, rtol=1e-3, atol=5e-3)


# Texts


@pytest.mark.parametrize("vectors", [1, 3])
def test_textual_inversion(stock: Any, pipeline: PnPVideoPipeline, vectors: int) -> None:
    for suffix in ("", "_2"):
        encoder = getattr(pipeline, f"text_encoder{suffix}")
        if encoder is None:
            continue
        learned = torch.randn(vectors, encoder.config.hidden_size)
        for one in (stock, pipeline):
            one.load_textual_inversion(
                {"<s>": learned},
                tokenizer=getattr(one, f"tokenizer{suffix}"),
                text_encoder=getattr(one, f"text_encoder{suffix}"),
            )
    text = "a photo of <s> on sand"
    expected = stock.encode_prompt(text, device="cpu", **ONE)[0]
    assert torch.equal(pipeline.encode_texts([text]).hidden, expected)
    assert not torch.allclose(pipeline.encode_texts(["a photo of s on sand"]).hidden, expected)
    pipeline.unload_textual_inversion()


ONE = {"num_images_per_prompt": 1, "do_classifier_free_guidance": True}


def test_encode_prompt(stock: Any, pipeline: PnPVideoPipeline) -> None:
    options = {"device": "cpu", **ONE, "num_images_per_prompt": 2}
    expected = stock.encode_prompt([STAR, MOON], negative_prompt=["x", "a b"], **options)
    given = pipeline.encode_prompt([STAR, MOON], negative_prompt=["x", "a b"], **options)
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        assert torch.equal(one, other)


# Calls


def swap(pipeline: Any, step: int, timestep: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """From the second step on with other texts, and a stronger guidance."""
    pipeline._guidance_scale = 9.0
    return given | {"prompt_embeds": given["prompt_embeds"].flip(-1) * 2}


def half(pipeline: Any, step: int, timestep: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
    return given | {"latents": given["latents"] / 2}


TEXT = {"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"negative_prompt": MOON, "guidance_rescale": 0.7},
        {"guidance_rescale": 1.0, "guidance_scale": 3.0},
        {"clip_skip": 1},
        {"clip_skip": 0},
        {"cross_attention_kwargs": {"scale": 0.3}},
        {"callback_on_step_end": half},
        {"callback_on_step_end": swap, **TEXT},
        {"callback_on_step_end": SDCFGCutoffCallback(0.0)},
    ],
)
def test_without_injection_it_is_the_plain_pipeline(
    stock: Any, pipeline: PnPVideoPipeline, kind: str, options: dict[str, Any]
) -> None:
    """From the same noise, to the same latents, each frame as one image."""
    if kind == "xl" and isinstance(options.get("callback_on_step_end"), SDCFGCutoffCallback):
        pytest.skip("made for Stable Diffusion 1 and 2")
    # diffusers looks there, where transformers 5 has it no longer.
    vars(stock.text_encoder).setdefault("text_model", stock.text_encoder)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config)
    if "cross_attention_kwargs" in options:
        for one in (stock, pipeline):
            torch.manual_seed(5)
            # The encoder's old place, for diffusers' converter of names.
            del vars(stock.text_encoder)["text_model"]
            one.load_lora_weights(dict(some_lora()))
            vars(stock.text_encoder)["text_model"] = stock.text_encoder
    common = {"guidance_scale": 5.0, "num_inference_steps": 2} | options
    result = call(pipeline, **common, tau_f=0.0, tau_a=0.0)
    for frame in range(2):
        expected = stock(
            STAR,
            latents=result.trajectory.noise[frame : frame + 1].float(),
            height=16,
            width=16,
            output_type="latent",
            **common,
        ).images
        torch.testing.assert_close(result.frames[:, frame], expected, rtol=1e-3, atol=1e-3)
    if options:
        plain = call(pipeline, guidance_scale=5.0, num_inference_steps=2, tau_f=0.0, tau_a=0.0)
        assert torch.allclose(plain.frames, result.frames) == (options == {"clip_skip": 0})
    assert pipeline.num_timesteps == stock.num_timesteps == 2


def some_lora() -> Iterator[tuple[str, Tensor]]:
    for part, layer in (
        ("unet", "up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_q"),
        ("text_encoder", "encoder.layers.1.self_attn.q_proj"),
    ):
        yield f"{part}.{layer}.lora_A.weight", torch.randn(2, 16)
        yield f"{part}.{layer}.lora_B.weight", torch.randn(16, 2)


def test_clip_skip_of_prompts_alone(stock: Any, pipeline: PnPVideoPipeline) -> None:
    vars(stock.text_encoder)["text_model"] = stock.text_encoder
    options = {"device": "cpu", **ONE, "negative_prompt": MOON, "clip_skip": 1}
    expected = stock.encode_prompt(STAR, **options)
    chosen = pipeline.model_options.override({"clip_skip": 1})
    prompts = embed_prompts(pipeline.model, STAR, MOON, options=chosen)
    assert torch.equal(prompts.targets.hidden, expected[0])
    assert torch.equal(prompts.negatives.hidden, expected[1])
    for one, other in zip(pipeline.encode_prompt(STAR, **options), expected, strict=True):
        assert torch.equal(one, other)
    # As a source without words is read as a negative prompt without any.
    nothing, star = (embed_source_prompt(pipeline.model, t, chosen).hidden for t in ("", STAR))
    assert torch.equal(nothing, pipeline.encode_texts([""]).hidden)
    assert torch.equal(star, expected[0])


def test_guidance_is_rescaled_by_frame() -> None:
    """Lin et al. 2024, equations 15 and 16, written naively."""
    cfg, positive = torch.randn(2, 2, 3, 4, 5, 6).double() * torch.tensor([1, 3])[:, *[None] * 5]
    ours = rescale(cfg, positive, 0.7)
    assert torch.equal(rescale(cfg, positive, 0.0), cfg)
    for prompt in range(2):
        for frame in range(3):
            one, wanted = cfg[prompt, frame], positive[prompt, frame]
            n = one.numel()
            spreads = [(((x - x.sum() / n) ** 2).sum() / (n - 1)) ** 0.5 for x in (wanted, one)]
            expected = 0.7 * one * spreads[0] / spreads[1] + 0.3 * one
            torch.testing.assert_close(ours[prompt, frame], expected)


def test_several_results_a_prompt(sd: PnPVideoPipeline) -> None:
    """Prompt by prompt; the first of each is the one that is made alone, no other is like it."""
    options = {"noise_share": 0.5, "prompt": [STAR, MOON]}
    alone = latents_of(sd, **options)
    several = latents_of(sd, num_images_per_prompt=2, **options)
    assert several.shape == (4, *alone.shape[1:])
    assert torch.equal(several[[0, 2]], alone)
    assert not torch.allclose(several[0], several[1], atol=1e-2)
    assert not torch.allclose(several[2], several[3], atol=1e-2)


def test_a_generator_for_each_result(sd: PnPVideoPipeline) -> None:
    options = {"noise_share": 0.5, "eta": 0.5}
    prompts, seeds = [STAR, MOON], [3, 4, 5, 6]
    seeded = [torch.Generator().manual_seed(seed) for seed in seeds]
    each = latents_of(sd, prompts, generator=seeded, num_images_per_prompt=2, **options)
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        alone = latents_of(sd, prompts[i // 2], generator=generator, **options)
        torch.testing.assert_close(each[i : i + 1], alone)


def call(pipeline: PnPVideoPipeline, **options: Any) -> Any:
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    settings = {"prompt": STAR, "height": 16, "width": 16, "output_type": "latent"}
    return pipeline(video=frames, **settings | options)


def test_it_can_be_interrupted(pipeline: PnPVideoPipeline) -> None:
    seen: list[Tensor] = []

    def stop(
        pipe: PnPVideoPipeline, step: int, at: int, given: dict[str, Tensor]
    ) -> dict[str, Any]:
        seen.append(given["latents"].clone())
        pipe._interrupt = step == 1
        return {}

    result = call(pipeline, num_inference_steps=5, callback_on_step_end=stop)
    assert len(seen) == 2
    assert pipeline.interrupt
    assert torch.equal(result.frames, seen[-1])
    call(pipeline, num_inference_steps=2)
    assert not pipeline.interrupt


def test_what_a_callback_sees(pipeline: PnPVideoPipeline, kind: str) -> None:
    names = ["prompt_embeds", "negative_prompt_embeds"]
    names += ["add_text_embeds"] if kind == "xl" else []
    given: dict[str, Tensor] = {}
    seen: list[Any] = []

    def look(pipe: PnPVideoPipeline, step: int, at: Tensor, tensors: dict[str, Tensor]) -> None:
        given.update(tensors)
        seen.append((type(at), at.item(), at.dtype, at.ndim))
        assert (pipe.guidance_scale, pipe.num_timesteps) == (4.0, STEPS)
        assert pipe.do_classifier_free_guidance

    options = {"callback_on_step_end": look, "callback_on_step_end_tensor_inputs": names}
    latents_of(pipeline, [STAR, MOON], negative_prompt="x", guidance_scale=4.0, **options)
    assert list(given) == names
    # As an element of the scheduler's timesteps.
    pipeline.scheduler.set_timesteps(STEPS)
    assert seen == [(type(t), t.item(), t.dtype, t.ndim) for t in pipeline.scheduler.timesteps]
    target, negative = (pipeline.encode_texts(t) for t in ([STAR, MOON], ["x", "x"]))
    both = torch.cat([negative.hidden, target.hidden])
    torch.testing.assert_close(given["prompt_embeds"], both)
    torch.testing.assert_close(given["negative_prompt_embeds"], negative.hidden)
    if kind == "xl":
        pooled = torch.cat([negative.pooled, target.pooled])
        torch.testing.assert_close(given["add_text_embeds"], pooled)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"num_images_per_prompt": 2}, "all would be the same"),
        ({"generator": [torch.Generator()] * 3}, "3 generators for 1 results"),
        ({"clip_skip": 3}, "clip_skip is 3; give at most 2"),
        ({"guidance_rescale": 2}, "guidance_rescale is 2; give a number from 0 to 1"),
        ({"cross_attention_kwargs": {"gligen": 1}}, "cross_attention_kwargs holds 'gligen'"),
        ({"cross_attention_kwargs": {"scale": 1}}, "no LoRA to scale"),
        ({"callback_on_step_end": lambda *_: {"noise": 1}}, "returns may not hold 'noise'"),
        ({"callback_on_step_end": SDXLCFGCutoffCallback(0.5)}, "may not hold 'add_time_ids'"),
        (
            {"callback_on_step_end": lambda *_: {"prompt_embeds": torch.zeros(3, 77, 16)}},
            "prompt_embeds with 3 rows; give 1 or 2",
        ),
    ],
)
def test_calls_that_cannot_be_met(
    sd: PnPVideoPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        latents_of(sd, **options)


def test_a_job_keeps_no_embeddings(sd: PnPVideoPipeline, tmp_path: Path) -> None:
    with (
        JobFolder(tmp_path) as job,
        pytest.raises(InputError, match="a job cannot keep embeddings"),
    ):
        latents_of(sd, job=job, callback_on_step_end=swap, **TEXT)


def test_a_job_knows_how_much_lora_counts(sd: PnPVideoPipeline, tmp_path: Path) -> None:
    """Another scale is another inversion, and so is another LoRA."""
    sd.load_lora_weights(dict(some_lora()))
    results = []
    for scale in (0.2, 0.9, 0.9):
        with JobFolder(tmp_path) as job:
            kwargs = {"scale": scale}
            results.append(latents_of(sd, cross_attention_kwargs=kwargs, job=job))
    assert torch.equal(results[1], results[2])
    expected = latents_of(sd, cross_attention_kwargs={"scale": 0.9})
    torch.testing.assert_close(results[1], expected)
    assert not torch.allclose(results[0], expected, atol=1e-2)
