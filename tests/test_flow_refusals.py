"""Wrong and unlucky flow-matching models, and options that they cannot follow: one line each."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flow_models
import pytest
import torch
from diffusers import (
    FirstBlockCacheConfig,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from models import save_lora
from safetensors.torch import load_file, save_file

from pnpvideo import ModelSettings, PnPFlowPipeline, load_pipeline
from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.settings import Settings
from pnpvideo.pixels.mask import Area
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit, seeded


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("flow")
    return {
        "sd3": flow_models.save_tiny_sd3(place / "sd3", **{"transformer_blocks.0": "kv"}),
        "flux": flow_models.save_tiny_flux(place / "flux", **{"transformer_blocks.0": "kv"}),
    }


def refused(folder: Path, **settings: object) -> str:
    """The line that refuses to load a model."""
    kind = Settings if "ip_adapter" in settings else ModelSettings
    with pytest.raises(InputError) as raised:
        load_pipeline(kind.of({"model": str(folder), "device": "cpu", **settings}))
    return one_line(raised.value)


def one_line(error: Exception) -> str:
    told = str(error)
    assert "\n" not in told
    assert len(told) < 420
    return told


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("FluxKontextPipeline", "an editor that reads the source picture"),
        ("FluxFillPipeline", "a model that fills holes"),
        ("FluxControlPipeline", "follows edges or depth"),
        ("FluxControlNetPipeline", "a pipeline with a ControlNet"),
        ("FluxPriorReduxPipeline", "an adapter that reads pictures"),
        ("StableDiffusion3ControlNetPipeline", "a pipeline with a ControlNet"),
        ("QwenImageEditPipeline", "an editor that reads the source picture"),
        ("QwenImageEditPlusPipeline", "an editor that reads source pictures"),
        ("QwenImageLayeredPipeline", "into layers"),
        ("Flux2KleinKVPipeline", "reference pictures"),
        ("WanImageToVideoPipeline", "a model of videos that reads a first frame"),
        ("WanVACEPipeline", "an editor of videos that reads the source"),
        ("ChromaPipeline", "without unet; give a Stable Diffusion"),
    ],
)
def test_pipelines_that_are_not_run(tmp_path: Path, kind: str, words: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    told = refused(tmp_path)
    assert f"is a {kind}" in told
    assert words in told
    assert "which-model" in told


def changed_index(folder: Path, **parts: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def changed_config(folder: Path, part: str = "scheduler", **values: object) -> None:
    path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def in_shards(folder: Path) -> None:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    file.unlink()
    names = sorted(weights)
    parts = names[::2], names[1::2]
    places = {}
    for number, part in enumerate(parts, start=1):
        shard = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, file.with_name(shard))
        places |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
    file.with_name("diffusion_pytorch_model-00002-of-00002.safetensors").unlink()


def without_weight(folder: Path, part: str, name: str) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    del weights[name]
    save_file(weights, file, {"format": "pt"})


def truncated(folder: Path) -> None:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])


def pickled(folder: Path) -> None:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


def another_vae(folder: Path) -> None:
    shutil.rmtree(folder / "vae")
    flow_models.image_vae(8).save_pretrained(folder / "vae")


def table(folder: Path, blocks: object) -> None:
    (folder / "pnp.json").write_text(json.dumps({"blocks": blocks}))


DAMAGE: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "no second encoder": (
        lambda at: changed_index(at, text_encoder_2=[None, None]),
        "has no text_encoder_2, and FLUX.1 needs one",
    ),
    "an encoder's folder is missing": (
        lambda at: shutil.rmtree(at / "text_encoder_2"), "has no files of its text_encoder_2",
    ),
    "an encoder without weights": (
        lambda at: without_weight(at, "text_encoder_2", "encoder.final_layer_norm.weight"),
        "its text_encoder_2 lacks 1 weights",
    ),
    "one shard is missing": (in_shards, "cannot be loaded"),
    "a truncated file": (truncated, "cannot be loaded"),
    "a pickled file": (pickled, "cannot be loaded"),
    "a transformer without a weight": (
        lambda at: without_weight(at, "transformer", "proj_out.weight"),
        "its transformer lacks 1 weights, such as proj_out.weight",
    ),
    "the transformer of another family": (
        lambda at: changed_index(at, transformer=["diffusers", "SD3Transformer2DModel"]),
        "has a SD3Transformer2DModel for its transformer, and FLUX.1 needs a Flux",
    ),
    "no transformer": (lambda at: changed_index(at, transformer=[None, None]), "no transformer"),
    "the autoencoder of videos": (
        lambda at: changed_index(at, vae=["diffusers", "AutoencoderKLWan"]), "AutoencoderKLWan",
    ),
    "an autoencoder of more channels": (
        another_vae, "the autoencoder, packed, has 32 channels, and the transformer takes 16",
    ),
    "another scheduler": (
        lambda at: changed_index(at, scheduler=["diffusers", "UniPCMultistepScheduler"]),
        "has a UniPCMultistepScheduler for its scheduler",
    ),
    "a scheduler that draws": (
        lambda at: changed_config(at, stochastic_sampling=True), "has stochastic_sampling",
    ),
    "a scheduler the other way round": (
        lambda at: changed_config(at, invert_sigmas=True), "has invert_sigmas",
    ),
    "no tokenizer": (lambda at: shutil.rmtree(at / "tokenizer_2"), "no files of its tokenizer_2"),
    "an adapter of an encoder": (
        lambda at: (at / "text_encoder" / "adapter_config.json").write_text("{}"),
        "adapter_config.json, which names other weights",
    ),
    "no table but a list": (
        lambda at: table(at, [1, 2]), "pnp.json cannot be used: blocks is [1, 2]; write names",
    ),
    "blocks that end before they begin": (
        lambda at: table(at, {"transformer_blocks.5-1": "kv"}), "give the smaller number first",
    ),
    "an index that is a list": (
        lambda at: (at / "model_index.json").write_text("[]"), "in place of names with values",
    ),
    "an index that is cut off": (
        lambda at: (at / "model_index.json").write_text('{"_class'), "model_index.json is not JSON",
    ),
    "a class that is a number": (
        lambda at: changed_index(at, _class_name=5), "does not name the class of the model's",
    ),
    "a part's settings that are a list": (
        lambda at: (at / "transformer" / "config.json").write_text("[1]"), "it holds [1] in place",
    ),
    "a part's settings that are empty": (
        lambda at: (at / "text_encoder" / "config.json").write_text("{}"), "it holds {} in place",
    ),
    "an autoencoder without a scale": (
        lambda at: changed_config(at, "vae", scaling_factor=None),
        "its autoencoder has scaling_factor None, and a number but 0 is needed",
    ),
    "an autoencoder with a shift in words": (
        lambda at: changed_config(at, "vae", shift_factor="much"), "has shift_factor 'much'",
    ),
    "a mean of too few channels": (
        lambda at: changed_config(at, "vae", latents_mean=[0.1]), "and a list of 4 numbers is",
    ),
    "a scheduler of no step": (
        lambda at: changed_config(at, num_train_timesteps=0), "cannot be loaded",
    ),
    "a shift in words": (
        lambda at: changed_config(at, base_shift="much"), "scheduler of the model",
    ),
    "a shift that is not finite": (
        lambda at: changed_config(at, base_shift=float("nan")), "scheduler of the model",
    ),
    "a letter that nothing has": (
        lambda at: table(at, {"transformer_blocks.0": "kx"}), "not some of q, k, v and f",
    ),
    "options of no kind": (
        lambda at: (at / "pnp.json").write_text('{"options": {"tau_a": 3}}'), "pnp.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_folders(kind: str, folders: Mapping[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["flux"], tmp_path / "model")
    damage, words = DAMAGE[kind]
    damage(folder)
    assert words in refused(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"controlnet": "owner/canny"}, "leave controlnet out: its injection keeps the layout"),
        (
            {"ip_adapter": "a.safetensors", "ip_adapter_image": "a.png", "source": "b.png",
             "prompt": "a stone"},
            "leave ip_adapter out: say in the prompt",
        ),
        ({"embedding": ["toy.safetensors"]}, "leave embedding out: give lora"),
        ({"prediction_type": "epsilon"}, "leave prediction_type out: it predicts a flow"),
    ],
)  # fmt: skip
def test_additions_for_a_unet(
    folders: Mapping[str, Path], settings: dict[str, object], words: str
) -> None:
    told = refused(folders["flux"], **settings)
    assert "is FLUX.1" in told
    assert words in told


@pytest.mark.parametrize("option", ["quantize", "offload_layers"])
def test_savings_that_are_only_for_transformers(tiny_model: Path, option: str) -> None:
    value = "fp8" if option == "quantize" else True
    settings = ModelSettings.of({"model": str(tiny_model), "device": "cpu", option: value})
    with pytest.raises(InputError, match=f"{option} is for "):
        load_pipeline(settings)


@pytest.fixture(scope="module")
def pipeline(folders: Mapping[str, Path]) -> PnPFlowPipeline:
    return PnPFlowPipeline.from_pretrained(folders["sd3"], dtype=torch.float32)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"attention_sharing": "extended"}, "attention_sharing is for models with a UNet"),
    ({"clip_skip": 1}, "clip_skip is for models with a UNet"),
    ({"prompt_weights": True}, "say in words what matters"),
    ({"control": "canny"}, "has no ControlNet here"),
    (
        {"method": "flowedit", "long_scene_boost": 2.0},
        "long_scene_boost is 2; it is for models of videos",
    ),
    (
        {"guidance_scale_2": 3.0},
        "guidance_scale_2 is 3; it is for models with a second transformer",
    ),
    (
        {"area": Area(named="a stone")},
        "reads cross-attention, and Stable Diffusion 3 has none; give mask, a picture that",
    ),
    ({"size": (52, 40)}, "give multiples of 8"),
    ({"size": (104, 32)}, "is 13 tokens long, and this model knows the positions of 12"),
]


@pytest.mark.parametrize(("changes", "words"), OPTIONS, ids=lambda value: str(value)[:30])
def test_options_that_cannot_be_followed(
    pipeline: PnPFlowPipeline, changes: dict[str, Any], words: str
) -> None:
    own = {name: changes[name] for name in ("area", "size") if name in changes}
    options = pipeline.model.defaults.override(
        {name: value for name, value in changes.items() if name not in own}
    )
    source = clip_of_frames(torch.zeros(1, 32, 32, 3, dtype=torch.uint8).numpy())
    request = Edit(source=source, prompt="a stone", options=options, generators=seeded(0), **own)
    with pytest.raises(InputError) as raised:
        OpenEdit(pipeline.model, request)
    assert words in one_line(raised.value)


VALUES: list[tuple[dict[str, Any], str]] = [
    ({"options": {"tau_a": 0.5}}, "give PnPOptions, such as"),
    ({"callback_on_step_end": 5}, "callback_on_step_end is 5; give a function"),
    ({"callback_on_step_end": lambda *_: 5}, "callback_on_step_end returned 5; give a dict"),
    ({"prompt": "\ud83d"}, "has a character that is not text"),
    ({"prompt": None, "prompt_embeds": torch.zeros(1, 7, 5)}, "and this model needs"),
]


@pytest.mark.parametrize(("values", "words"), VALUES, ids=lambda value: str(value)[:30])
def test_values_of_a_wrong_kind(
    pipeline: PnPFlowPipeline, values: dict[str, Any], words: str
) -> None:
    pipeline.set_progress_bar_config(disable=True)
    size = {"width": 32, "height": 32}
    with pytest.raises(InputError) as raised:
        pipeline(**{"prompt": "a stone", "video": torch.zeros(3, 32, 32)} | size | values)
    assert words in one_line(raised.value)


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("sd3", (600, 6), "is 600x6, and with its proportions the model would work at 320x8, more"),
        (
            "sd3",
            (5, 900),
            "5x900, .* at 8x432, more than the 96 pixels .* multiples of 8, up to 96",
        ),
        (
            "flux",
            (9000, 10),
            "at 15360x16, more than the 8192 pixels .* multiples of 8, up to 8192",
        ),
        ("unet", (90_000, 1), "at 9600x4, more than the 8192 pixels .* multiples of 4, up to 8192"),
    ],
)
def test_sources_of_long_proportions(
    folders: Mapping[str, Path], tiny_model: Path, model: str, size: tuple[int, int], words: str
) -> None:
    """The size is the model's, so the line names the source's."""
    folder = tiny_model if model == "unet" else folders[model]
    loaded = load_pipeline(ModelSettings.of({"model": str(folder), "device": "cpu"})).model
    source = clip_of_frames(torch.zeros(1, size[1], size[0], 3, dtype=torch.uint8).numpy())
    options = loaded.defaults
    with pytest.raises(InputError, match=words) as raised:
        OpenEdit(loaded, Edit(source=source, prompt="a", options=options, generators=seeded(0)))
    assert "; crop the source, or give a --size of" in one_line(raised.value)


def test_models_that_injection_cannot_change(pipeline: PnPFlowPipeline) -> None:
    model = pipeline.model
    own, model.blocks = model.blocks, ()
    with pytest.raises(InputError, match=r"name them in its pnp\.json"):
        model.check_options(model.defaults)
    model.check_options(model.defaults.override({"tau_a": 0.0}))
    model.check_options(model.defaults.override({"method": "flowedit"}))
    model.blocks = (("transformer_blocks.7", "kv"),)
    with pytest.raises(InputError, match="with keys to inject into"):
        model.check_options(model.defaults)
    model.blocks = own
    model.transformer.fuse_qkv_projections()
    try:
        with pytest.raises(InputError, match="are fused"):
            model.check_options(model.defaults)
    finally:
        for module in model.transformer.modules():
            if hasattr(module, "fused_projections"):
                module.fused_projections = False
        model.transformer.unfuse_qkv_projections()
    scheduler = pipeline.pipe.scheduler
    pipeline.pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1e9)
    with pytest.raises(InputError, match="are not distinct with so many; give fewer steps"):
        model.schedule(model.defaults, (32, 32))
    pipeline.pipe.scheduler = UniPCMultistepScheduler(use_flow_sigmas=True)
    with pytest.raises(InputError, match="a UniPCMultistepScheduler does not have the levels"):
        model.schedule(model.defaults, (32, 32))
    pipeline.pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift_terminal=0.02)
    with pytest.raises(InputError, match="steps is 1, which is too few"):
        model.schedule(model.defaults.override({"steps": 1}), (32, 32))
    pipeline.pipe.scheduler = scheduler


def test_a_cache_that_skips_blocks(folders: Mapping[str, Path]) -> None:
    model = PnPFlowPipeline.from_pretrained(folders["flux"], dtype=torch.float32).model
    model.transformer.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(InputError, match="has a cache, which skips blocks"):
        model.check_options(model.defaults)


def lora(layer: str, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    return {f"{layer}.lora_A.weight": torch.randn(2, inputs),
            f"{layer}.lora_B.weight": torch.randn(outputs, 2)}  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (lora("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 8, 8), "names"),
        (lora("transformer.transformer_blocks.0.attn.to_q", 24, 16), "has 24 inputs"),
        (lora("transformer.blocks.0.attn1.to_q", 16, 16), "it is for a transformer"),
        ({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, "only LoRA can be merged"),
    ],
)
def test_loras_of_other_families(
    folders: Mapping[str, Path], tmp_path: Path, weights: dict[str, torch.Tensor], words: str
) -> None:
    told = refused(folders["flux"], lora=[str(save_lora(weights, tmp_path / "x.safetensors"))])
    assert "is not a LoRA for this model, FLUX.1" in told
    assert words in told


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_lora_is_merged_with_its_weight(
    name: str, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    layer = "transformer.transformer_blocks.0.attn.to_q"
    weights = lora(layer, 16, 16)
    path = save_lora(weights, tmp_path / "x.safetensors")
    plain, merged = (
        PnPFlowPipeline.from_pretrained(folders[name], dtype=torch.float32, loras=loras)
        for loras in ((), (f"{path}:0.5",))
    )
    change = weights[f"{layer}.lora_B.weight"] @ weights[f"{layer}.lora_A.weight"]
    found = [
        one.model.transformer.transformer_blocks[0].attn.to_q.weight for one in (plain, merged)
    ]
    torch.testing.assert_close(found[1] - found[0], 0.5 * change)


def test_a_text_encoder_that_overflows(folders: Mapping[str, Path]) -> None:
    pipeline = PnPFlowPipeline.from_pretrained(folders["flux"], dtype=torch.float16)
    pipeline.pipe.text_encoder_2.encoder.final_layer_norm.weight.data.fill_(6e4)
    with pytest.raises(RunError, match=r"text encoder made values .* give --dtype float32"):
        pipeline.model.encode_texts(["a stone"])


def test_a_distilled_model_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = flow_models.save_tiny_flux(tmp_path / "schnell", distilled=True)
    PnPFlowPipeline.from_pretrained(folder, dtype=torch.float32)
    assert "was distilled to few steps" in caplog.text
