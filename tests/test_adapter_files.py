"""LoRA as PEFT and diffusers' networks save them: by folder, with their own names and alphas."""

import json
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from models import save_lora
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.evaluation.load_networks import MissingNetworkError, load_network
from pnpvideo.loading.ip_adapter import load_image_encoder
from pnpvideo.loading.load import load_model
from pnpvideo.loading.lora import find_lora, read_lora
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

RANK, ALPHA = 2, 6.0
LAYER = "up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_q"
TEXT_LAYER = "encoder.layers.1.self_attn.q_proj"
Parts = Mapping[str, Any]


@pytest.fixture(scope="module")
def parts(tiny_model: Path) -> Parts:
    return load_model(tiny_model).components


def config(**changes: Any) -> LoraConfig:
    return LoraConfig(
        r=RANK, lora_alpha=ALPHA, **{"target_modules": ["to_q", "to_out.0"]} | changes
    )


def filled(module: Any) -> Any:
    """All weights of a LoRA as if it were trained."""
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return module


def wrapped(part: Any, **changes: Any) -> Any:
    return filled(peft.get_peft_model(deepcopy(part), config(**changes)))


def merged(model: Any) -> dict[str, Tensor]:
    """A network's weights with the LoRA in them, as PEFT computes them."""
    state: dict[str, Tensor] = model.merge_and_unload().state_dict()
    return state


# Each writes a folder, and returns the UNet's weights with the LoRA merged.


def by_peft(parts: Parts, folder: Path) -> dict[str, Tensor]:
    model = wrapped(parts["unet"])
    model.save_pretrained(folder)
    return merged(model)


def by_peft_with_patterns(parts: Parts, folder: Path) -> dict[str, Tensor]:
    changes = {"rank_pattern": {"attn1.to_q": 3}, "alpha_pattern": {"attn1.to_q": 4.0}}
    model = wrapped(parts["unet"], use_rslora=True, **changes)
    model.save_pretrained(folder)
    return merged(model)


def by_a_network(parts: Parts, folder: Path) -> dict[str, Tensor]:
    unet = deepcopy(parts["unet"])
    unet.add_adapter(config(), adapter_name="style")
    filled(unet).save_lora_adapter(folder, adapter_name="style")
    unet.fuse_lora()
    return without_lora(unet)


def without_lora(unet: Any) -> dict[str, Tensor]:
    kept = {k: v for k, v in unet.state_dict().items() if ".lora_" not in k}
    return {k.replace(".base_layer", ""): v for k, v in kept.items()}


def plain_tensors(infix: str = "") -> tuple[dict[str, Tensor], Tensor]:
    """Of one layer, with 16 channels, and their product."""
    down, up = torch.randn(RANK, 16), torch.randn(16, RANK)
    named = {f"lora_A{infix}.weight": down, f"lora_B{infix}.weight": up}
    return {f"unet.{LAYER}.{name}": x for name, x in named.items()}, up @ down


def in_one_file(
    infix: str, factor: float, prefix: str = "unet.", **metadata: str
) -> Callable[[Parts, Path], dict[str, Tensor]]:
    def write(parts: Parts, folder: Path) -> dict[str, Tensor]:
        tensors, product = plain_tensors(infix)
        named = {k.replace("unet.", prefix): v.contiguous() for k, v in tensors.items()}
        save_file(named, folder / "style.safetensors", metadata)
        state: dict[str, Tensor] = dict(parts["unet"].state_dict())
        state[f"{LAYER}.weight"] = state[f"{LAYER}.weight"] + factor * product
        return state

    return write


HEADER = json.dumps({"r": RANK, "lora_alpha": ALPHA, "alpha_pattern": {}})
OF_PIPELINE = json.dumps({"unet.r": RANK, "unet.lora_alpha": ALPHA})
WRITERS = {
    "PEFT's folder": by_peft,
    "PEFT's folder with patterns": by_peft_with_patterns,
    "save_lora_adapter": by_a_network,
    "an adapter's name within": in_one_file(".default", 1.0),
    "another adapter's name": in_one_file(".style_2", 1.0),
    "no part's name": in_one_file("", 1.0, ""),
    "alpha in the header": in_one_file("", ALPHA / RANK, lora_alpha=str(ALPHA)),
    "another key of it": in_one_file(".default", ALPHA / RANK, "", alpha="6"),
    "a configuration in the header": in_one_file(
        ".default", ALPHA / RANK, "", lora_adapter_metadata=HEADER
    ),
    "one of a pipeline": in_one_file(".a", ALPHA / RANK, lora_adapter_metadata=OF_PIPELINE),
    "neither": in_one_file("", 1.0, format="pt", ss_network_alpha="1"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_it_is_merged_and_loaded_as_its_writer_would(
    parts: Parts, tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    torch.manual_seed(2)
    wanted = WRITERS[kind](parts, tmp_path)
    changed = [k for k, v in parts["unet"].state_dict().items() if not torch.equal(v, wanted[k])]
    assert changed
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32, loras=[tmp_path])
    assert_unet(pipeline, wanted)
    (file,) = tmp_path.glob("*.safetensors")
    for given, how in ((tmp_path, {"weight_name": file.name}), (file, {})):
        loaded = PnPVideoPipeline(**{**pipeline.components, "unet": deepcopy(parts["unet"])})
        loaded.load_lora_weights(given, adapter_name="mine", **how)
        assert loaded.get_active_adapters() == ["mine"]
        loaded.fuse_lora()
        loaded.unload_lora_weights()
        assert_unet(loaded, wanted)


def assert_unet(pipeline: Any, wanted: Mapping[str, Tensor]) -> None:
    state = pipeline.unet.state_dict()
    assert state.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("folder", ["text_encoder", "other"])
def test_a_text_encoders_folder(
    parts: Parts, tiny_model: Path, tmp_path: Path, folder: str
) -> None:
    layers = ["q_proj", "k_proj", "v_proj", "out_proj"]
    model = wrapped(parts["text_encoder"], target_modules=layers)
    model.save_pretrained(tmp_path / folder)
    wanted = merged(model)
    assert not torch.equal(
        wanted[f"{TEXT_LAYER}.weight"], parts["text_encoder"].state_dict()[f"{TEXT_LAYER}.weight"]
    )
    loaded = load_model(tiny_model, loras=[tmp_path / folder]).components["text_encoder"]
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-5)


def test_a_configuration_leads_nowhere_else(parts: Parts, tiny_model: Path, tmp_path: Path) -> None:
    """Neither a LoRA's, nor one that lies in a model's folder, where transformers follows it."""
    wanted = by_peft(parts, tmp_path)
    file = tmp_path / "adapter_config.json"
    content = json.loads(file.read_text()) | {"base_model_name_or_path": "/somewhere/else"}
    file.write_text(json.dumps(content))
    loaded = load_model(tiny_model, loras=[tmp_path]).components["unet"].state_dict()
    torch.testing.assert_close(loaded[f"{LAYER}.weight"], wanted[f"{LAYER}.weight"])
    model = shutil.copytree(tiny_model, tmp_path / "model")
    for part in ("text_encoder", "image_encoder"):
        (model / part).mkdir(exist_ok=True)
        shutil.copy(file, model / part)
    with pytest.raises(InputError, match=r"holds text_encoder/adapter_config\.json, which names"):
        load_model(model)
    with pytest.raises(InputError, match=r"image_encoder holds adapter_config\.json, which names"):
        load_image_encoder(model / "image_encoder", torch.float32)
    # Parts that diffusers has transformers load.
    shutil.rmtree(model / "text_encoder")
    shutil.copytree(tiny_model / "text_encoder", model / "text_encoder")
    index = json.loads((model / "model_index.json").read_text())
    index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    (model / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"holds image_encoder/adapter_config\.json, which names"):
        load_model(model)
    # The networks of the measures.
    for role in ("clip", "dino", "classifier", "features"):
        with pytest.raises(MissingNetworkError, match=r"holds adapter_config\.json, which names"):
            load_network(role, str(tmp_path))


def test_a_networks_own_code_is_not_run(tmp_path: Path) -> None:
    code = {"auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}, "model_type": "own"}
    (tmp_path / "config.json").write_text(json.dumps(code))
    (tmp_path / "own.py").write_text("raise SystemExit(3)")
    with pytest.raises(MissingNetworkError, match="the network features"):
        load_network("features", str(tmp_path))


def bad_folder(change: Callable[[Path, dict[str, Any]], object]) -> Callable[[Parts, Path], object]:
    def write(parts: Parts, folder: Path) -> None:
        named = {k.replace("unet.", "base_model.model."): v for k, v in plain_tensors()[0].items()}
        save_lora(named, folder / "adapter_model.safetensors")
        file = folder / "adapter_config.json"
        file.write_text("{}")
        content = change(file, {"r": RANK, "lora_alpha": ALPHA, "peft_type": "LORA"})
        if isinstance(content, dict):
            file.write_text(json.dumps(content))

    return write


def two_adapters(parts: Parts, folder: Path) -> None:
    first, second = plain_tensors(".default")[0], plain_tensors(".other")[0]
    save_lora(first | second, folder / "style.safetensors")


def parts_in_folders(parts: Parts, folder: Path) -> None:
    for name in ("unet", "text_encoder"):
        (folder / name).mkdir()
        save_lora(plain_tensors()[0], folder / name / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (bad_folder(lambda file, _: file.unlink()), "there is no adapter_config.json beside"),
        (bad_folder(lambda file, _: file.write_text("[1]")), "is not a JSON object"),
        (bad_folder(lambda file, _: file.write_text("[" * 100_000)), "is not a JSON object"),
        (bad_folder(lambda file, _: file.write_bytes(b"\xff")), "cannot be read"),
        (bad_folder(lambda _, old: old | {"lora_alpha": "much"}), "is not a number"),
        (bad_folder(lambda _, old: old | {"lora_alpha": None}), "is not a number"),
        (bad_folder(lambda _, old: old | {"alpha_pattern": {"to_q": []}}), "is not a number"),
        (bad_folder(lambda _, old: old | {"alpha_pattern": {"(": 1}}), "alpha_pattern"),
        (bad_folder(lambda _, old: old | {"alpha_pattern": {"(\\w+)+x": 1}}), "alpha_pattern"),
        (bad_folder(lambda _, old: old | {"peft_type": "LOHA"}), "is PEFT's LOHA"),
        (in_one_file("", 1.0, lora_alpha="nan"), "is not a number"),
        (two_adapters, r"several adapters \(default, other\); save one"),
        (parts_in_folders, "give its folders one by one: unet, text_encoder"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    parts: Parts, tmp_path: Path, write: Any, message: str
) -> None:
    write(parts, tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        read_lora(find_lora(tmp_path)[0])
    assert "\n" not in str(raised.value)


def test_a_pipeline_with_a_lora_is_not_saved(
    parts: Parts, tiny_model: Path, tmp_path: Path
) -> None:
    wanted = by_peft(parts, tmp_path)
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    pipeline.load_lora_weights(tmp_path)
    saved = tmp_path / "saved"
    for change in (lambda: None, pipeline.fuse_lora):
        change()
        with pytest.raises(InputError, match=r"fuse it .* or unload it first"):
            pipeline.save_pretrained(saved)
        assert not saved.exists()
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(saved)
    assert_unet(PnPVideoPipeline.from_pretrained(saved, dtype=torch.float32), wanted)
