"""What diffusers' users do with its own pipelines, done with ours: it works in the same way."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from models import save_checkpoint, save_tiny_sdxl
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.load import load_model
from pnpvideo.pipeline import PnPVideoPipeline

KINDS = {"sd": StableDiffusionPipeline, "xl": StableDiffusionXLPipeline}
STEPS = 2
STAR, MOON = "a photo of a red star", "a cartoon of a blue moon"


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"sd": tiny_model, "xl": save_tiny_sdxl(tmp_path_factory.mktemp("xl"))}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stock(folders: dict[str, Path], kind: str) -> Any:
    return stock_of(folders[kind], kind)


@pytest.fixture
def pipeline(folders: dict[str, Path], kind: str) -> PnPVideoPipeline:
    return quiet(PnPVideoPipeline.from_pretrained(folders[kind], dtype=torch.float32))


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
        assert torch.equal(latents_of(quiet(made)), expected)
    # And back.
    assert type(stock).from_pipe(made).vae is stock.vae


def zeros_of(stock: Any) -> dict[str, bool]:
    name = "force_zeros_for_empty_prompt"
    return {name: stock.config[name]} if name in stock.config else {}


def test_a_saved_folder_is_one_of_diffusers(pipeline: PnPVideoPipeline, tmp_path: Path) -> None:
    pipeline.model_options = pipeline.model_options.override({"steps": 7, "noise_share": 0.25})
    pipeline.save_pretrained(tmp_path)
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
        assert torch.equal(latents_of(quiet(again)), latents_of(pipeline))


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
        (lambda p: setattr(p, "scheduler", euler(p)), "EulerDiscreteScheduler is no DDIMScheduler"),
        (lambda p: again(p, text_encoder=None), "no first text encoder; give a whole model"),
        (lambda p: PnPVideoPipeline.from_pretrained(scheduler=euler(p)), "is no DDIMScheduler"),
        (lambda p: PnPVideoPipeline.from_pretrained(dtype="half"), "dtype is 'half'"),
    ],
)
def test_what_cannot_be_used_is_refused(
    folders: dict[str, Path], change: Callable[[PnPVideoPipeline], object], message: str
) -> None:
    made = PnPVideoPipeline.from_pretrained(folders["sd"])
    with pytest.raises(InputError, match=message):
        change(made)


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


def test_slices_and_tiles(folders: dict[str, Path]) -> None:
    pipeline = quiet(PnPVideoPipeline.from_pretrained(folders["sd"], dtype=torch.float32))
    whole = latents_of(pipeline)
    for name in ("slicing", "tiling"):
        getattr(pipeline, f"enable_vae_{name}")()
        assert getattr(pipeline.vae, f"use_{name}")
        torch.testing.assert_close(latents_of(pipeline), whole)
        getattr(pipeline, f"disable_vae_{name}")()
        assert not getattr(pipeline.vae, f"use_{name}")


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


def test_lora(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """Loaded with a weight, fused and unloaded: as if the products were added to the weights."""
    names = ("unet", "text_encoder", *(("text_encoder_2",) if kind == "xl" else ()))
    layers = dict(lora_layers(stock_of(folders[kind], kind), names))
    PnPVideoPipeline.save_lora_weights(
        tmp_path, **{f"{name}_lora_layers": state for name, state in layers.items()}
    )
    added = quiet(PnPVideoPipeline.from_pretrained(folders[kind], dtype=torch.float32))
    for name, state in layers.items():
        for key, down in state.items():
            if "lora_A" in key:
                weight = getattr(added, name).get_submodule(key.split(".lora_A")[0]).weight
                weight.data += 0.5 * state[key.replace("lora_A", "lora_B")] @ down
    expected = latents_of(added)

    pipeline = quiet(PnPVideoPipeline.from_pretrained(folders[kind], dtype=torch.float32))
    plain = latents_of(pipeline)
    assert not torch.allclose(plain, expected, atol=1e-2)
    pipeline.load_lora_weights(tmp_path, adapter_name="style")
    pipeline.set_adapters("style", adapter_weights=0.5)
    torch.testing.assert_close(latents_of(pipeline), expected, rtol=1e-3, atol=1e-3)
    pipeline.fuse_lora()
    torch.testing.assert_close(latents_of(pipeline), expected, rtol=1e-3, atol=1e-3)
    pipeline.unfuse_lora()
    pipeline.unload_lora_weights()
    torch.testing.assert_close(latents_of(pipeline), plain, rtol=1e-3, atol=1e-3)


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
