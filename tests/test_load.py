import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from command import hub_without_answers
from models import TOKENIZER, save_checkpoint, save_tiny_sdxl
from safetensors.torch import load_file, save_file
from torch import Tensor

from pnpvideo.catalogue.pipelines import SUPPORTED
from pnpvideo.errors import InputError, RunError
from pnpvideo.loading.load import LoadedModel, load_model
from pnpvideo.loading.recommended import Recommended
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

QUERY = "up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_q"


def weights(model: LoadedModel) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value
        for part in ("unet", "vae", "text_encoder")
        for name, value in model.components[part].state_dict().items()
    }


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def copy_of(model: Path, target: Path) -> Path:
    shutil.copytree(model, target)
    return target


def test_a_folder_has_the_weights_in_its_files(tiny_model: Path) -> None:
    loaded = load_model(tiny_model)
    unet = load_file(tiny_model / "unet" / "diffusion_pytorch_model.safetensors")
    assert_same(loaded.components["unet"].state_dict(), unet)
    assert "text_encoder_2" not in loaded.components
    assert loaded.recommended == Recommended()


def test_the_embedded_model_is_the_default() -> None:
    loaded = load_model()
    assert isinstance(loaded.components["unet"], diffusers.UNet2DConditionModel)
    assert loaded.components["unet"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype(tiny_model: Path, dtype: torch.dtype) -> None:
    loaded = load_model(tiny_model, dtype=dtype)
    full = weights(load_model(tiny_model))
    for name, value in weights(loaded).items():
        assert value.dtype == dtype
        assert torch.equal(value, full[name].to(dtype))


def test_sdxl_keeps_its_autoencoder_exact_in_float16(tmp_path: Path) -> None:
    folder = save_tiny_sdxl(tmp_path)
    loaded = load_model(folder, dtype=torch.float16).components
    assert loaded["unet"].dtype == loaded["text_encoder_2"].dtype == torch.float16
    assert loaded["vae"].dtype == torch.float32
    assert loaded["force_zeros_for_empty_prompt"] is True
    assert load_model(folder, dtype=torch.bfloat16).components["vae"].dtype == torch.bfloat16


def test_the_models_own_options_and_layers(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_model, tmp_path / "model")
    own = {
        "options": {"steps": 12, "noise_share": 0.25},
        "layers": {"features": ["up_blocks.1.resnets.0"], "attentions": ["up_blocks.3"]},
    }
    (folder / "pnp.json").write_text(json.dumps(own))
    pipeline = PnPVideoPipeline.from_pretrained(str(folder))
    assert (pipeline.model_options.steps, pipeline.model_options.noise_share) == (12, 0.25)
    assert pipeline.model_options.tau_f == 0.8
    assert pipeline.layers.features == ("up_blocks.1.resnets.0",)
    assert pipeline.layers.attentions == ("up_blocks.3",)


@pytest.mark.parametrize(
    "own",
    [
        "no json",
        "[1]",
        '{"options": {"stesp": 3}}',
        '{"options": {"steps": 0}}',
        '{"options": {"tau_f": "much"}}',
        '{"layers": {"features": ["up_blocks.1.resnets.0"]}}',
    ],
)
def test_wrong_pnp_json(tiny_model: Path, tmp_path: Path, own: str) -> None:
    folder = copy_of(tiny_model, tmp_path / "model")
    (folder / "pnp.json").write_text(own)
    with pytest.raises(InputError, match=r"pnp\.json (cannot be used|is not JSON)"):
        load_model(folder)


# One checkpoint file


def test_a_checkpoint_with_a_local_config(tiny_model: Path, tmp_path: Path) -> None:
    folder = load_model(tiny_model)
    path = save_checkpoint(folder.components, tmp_path / "model.safetensors")
    config = copy_of(tiny_model, tmp_path / "config")
    for file in config.rglob("*.safetensors"):
        file.unlink()
    loaded = load_model(path, config=config)
    assert_same(weights(loaded), weights(folder))
    assert loaded.components["scheduler"].config.steps_offset == 1
    assert load_model(path, config=config, dtype=torch.float16).components["vae"].dtype == (
        torch.float16
    )


def test_a_checkpoint_with_the_config_of_another_model(tiny_model: Path, tmp_path: Path) -> None:
    path = save_checkpoint(load_model(tiny_model).components, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(path, config=TOKENIZER.parent)
    with pytest.raises(InputError, match="not a diffusers model"):
        load_model(path, config=tmp_path)


def test_a_checkpoint_without_network(tiny_model: Path, tmp_path: Path) -> None:
    path = save_checkpoint(load_model(tiny_model).components, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="--model-config FOLDER"):
        load_model(path, local_files_only=True, cache_dir=tmp_path / "cache")


def test_wrong_checkpoints(tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.pt", "model.bin"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(InputError, match="can hold code"):
            load_model(tmp_path / name)
    broken = tmp_path / "broken.safetensors"
    for content in (b"", b"\xff" * 64, b"\x10\0\0\0\0\0\0\0{}"):
        broken.write_bytes(content)
        with pytest.raises(InputError, match="is not a safetensors file"):
            load_model(broken)
    other = tmp_path / "other.safetensors"
    save_file({"some.weight": torch.zeros(2)}, other)
    with pytest.raises(InputError, match="is not a known model"):
        load_model(other)


# Folders and names that are none


def test_wrong_folders(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model_index\.json"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="a model config is for a"):
        load_model(tiny_model, config=tiny_model)

    def broken(name: str, change: Any) -> Path:
        folder = copy_of(tiny_model, tmp_path / name)
        change(folder)
        return folder

    unet = Path("unet", "diffusion_pytorch_model.safetensors")
    cases = [
        broken("damaged", lambda f: (f / unet).write_bytes(b"\xff" * 100)),
        broken("cut", lambda f: (f / unet).write_bytes((tiny_model / unet).read_bytes()[:-100])),
        broken("no_weights", lambda f: (f / unet).unlink()),
        broken("no_tokenizer", lambda f: shutil.rmtree(f / "tokenizer")),
        broken("no_config", lambda f: (f / "unet" / "config.json").write_text("{")),
        broken("no_index", lambda f: (f / "model_index.json").write_text("{")),
        broken("other", lambda f: (f / "model_index.json").write_text('{"unet": ["a", "b"]}')),
    ]
    for folder in cases:
        with pytest.raises(InputError, match=folder.name) as raised:
            load_model(folder)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "file",
    [
        "unet/diffusion_pytorch_model",
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
        "text_encoder_2/model",
    ],
)
def test_parts_that_lack_weights(tiny_model: Path, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    if "_2" in file:
        save_tiny_sdxl(folder)
    else:
        copy_of(tiny_model, folder)
    path = folder / f"{file}.safetensors"
    tensors = load_file(path)
    name = sorted(name for name in tensors if name.endswith("weight"))[0]
    del tensors[name]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(InputError, match=f"its {path.parent.name} lacks 1 weights, such as {name}"):
        load_model(folder)


SD_INDEX = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
}
NONE = [None, None]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("StableDiffusionXLImg2ImgPipeline", {"text_encoder": NONE, "tokenizer": NONE},
         "without text_encoder"),
        ("FluxPipeline", {"unet": NONE}, "without unet"),
        ("IFPipeline", {"vae": NONE}, "without vae"),
        ("KolorsPipeline", {"text_encoder": ["kolors", "ChatGLMModel"]}, "a ChatGLMModel for its"),
        ("TextToVideoSDPipeline", {"unet": ["diffusers", "UNet3DConditionModel"]},
         "with a UNet3DConditionModel for its unet"),
        ("AnimateDiffPipeline", {"unet": ["diffusers", "UNetMotionModel"]}, "a UNetMotionModel"),
        ("AudioLDMPipeline", {"text_encoder": ["transformers", "ClapTextModelWithProjection"]},
         "a ClapTextModelWithProjection for its text_encoder"),
        ("LDMTextToImagePipeline", {"vae": ["diffusers", "VQModel"]}, "with a VQModel for its vae"),
        ("StableDiffusionPipeline", {"scheduler": NONE}, "without scheduler"),
    ],
)  # fmt: skip
def test_folders_of_other_pipelines(
    tmp_path: Path, name: str, changes: dict[str, object], words: str
) -> None:
    index = {"_class_name": name, **SD_INDEX, **changes}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError) as raised:
        load_model(tmp_path)
    told = str(raised.value)
    assert told.startswith(f"the model {tmp_path} is a {name} with")
    assert words in told
    assert told.endswith(
        "load it with load_pipeline" if name == "FluxPipeline" else f"give {SUPPORTED}"
    )


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}, "is for flow matching"),
        ("EDMEulerScheduler", {}, "is for EDM's noise levels"),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True}, "zero terminal SNR"),
    ],
)
def test_noise_of_another_kind_is_refused_before_the_weights(
    tmp_path: Path, name: str, config: dict[str, object], words: str
) -> None:
    index = {"_class_name": "StableDiffusionPipeline", **SD_INDEX, "scheduler": ["diffusers", name]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "scheduler").mkdir()
    written = {"_class_name": name, **config}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match=words):
        load_model(tmp_path)


def test_folders_of_parts_and_of_files(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a part of a model is not enough; give its parent folder"):
        load_model(tiny_model / "unet")
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"give its path, such as .*model\.safetensors"):
        load_model(tmp_path)


def test_pickled_weights_are_not_read(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_model, tmp_path / "model")
    safe = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(safe), safe.with_suffix(".bin"))
    safe.unlink()
    with pytest.raises(InputError, match=r"safetensors"):
        load_model(folder)


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "./nothing", "nothing/x.safetensors", ""])
def test_there_is_no_such_model(name: str) -> None:
    with pytest.raises(InputError, match=r"there is no model|no model_index"):
        load_model(name)


def test_a_hub_id_without_network(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_without_answers(monkeypatch) as asked:
        with pytest.raises(RunError, match="the hub cannot be reached for the model owner/name"):
            load_model("owner/name", cache_dir=tmp_path)
        assert len(asked) == 1  # Its own client would ask again and again, for half a minute.
    # What was downloaded before is used.
    kept = tmp_path / "models--owner--name"
    copy_of(tiny_model, kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    assert_same(
        weights(load_model("owner/name", cache_dir=tmp_path)), weights(load_model(tiny_model))
    )
