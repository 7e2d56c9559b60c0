"""LoRA files and their like: merged as written naively, told, or refused with the reason."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from command import Cli
from models import save_lora, save_tiny_sdxl
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.loading.load import load_model
from pnpvideo.loading.lora import find_lora
from pnpvideo.loading.merge_lora import merge_lora
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

QUERY = "up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_q"
KEY2 = "up_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k"
CONV = "down_blocks.1.resnets.0.conv2"
NORM = "mid_block.resnets.0.norm1"
PROJECTION = "encoder.layers.1.self_attn.q_proj"

Weights = dict[str, Tensor]


def weights(model: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Weights:
    """By part and name, those of the UNet and the first text encoder."""
    components = load_model(model, dtype=dtype, **options).components
    return {
        f"{part}.{name}": value
        for part in ("unet", "text_encoder")
        for name, value in components[part].state_dict().items()
    }


def assert_changed(now: Weights, plain: Weights, wanted: Weights, atol: float = 1e-5) -> None:
    """The wanted weights in their places, all others as they were."""
    assert now.keys() == plain.keys()
    assert wanted.keys() <= plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(now[name], wanted.get(name, value), rtol=1e-5, atol=atol)


def kohya(name: str) -> str:
    """A layer's name in most files on the web."""
    part, _, layer = name.partition(".")
    if part == "unet":
        return "lora_unet_" + layer.replace(".", "_")
    return "lora_te_text_model_" + layer.replace(".", "_")


# What is trained: each makes a layer's weights in the file, and what becomes of the layer's weight


def lora(weight: Tensor) -> tuple[Weights, Tensor]:
    down, up = torch.randn(2, *weight.shape[1:]), torch.randn(weight.shape[0], 2)
    file = {"lora_down.weight": down, "alpha": torch.tensor(1.0)}
    file["lora_up.weight"] = up[:, :, None, None] if weight.ndim == 4 else up
    return file, weight + 0.5 * (up @ down.flatten(1)).view(weight.shape)


def loha(weight: Tensor) -> tuple[Weights, Tensor]:
    out, inner = weight.flatten(1).shape
    a, b, c, d = (torch.randn(*s) for s in ((out, 2), (2, inner), (out, 2), (2, inner)))
    file = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
    change = (a @ b) * (c @ d)
    return file | {"alpha": torch.tensor(1.0)}, weight + 0.5 * change.view(weight.shape)


def lokr(weight: Tensor) -> tuple[Weights, Tensor]:
    one, a, b = torch.randn(4, 4), torch.randn(4, 1), torch.randn(1, 4)
    file = {"lokr_w1": one, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(0.5)}
    return file, weight + 0.5 * torch.kron(one, a @ b)


def full(weight: Tensor) -> tuple[Weights, Tensor]:
    change = torch.randn_like(weight)
    return {"diff": change}, weight + change


def norm(weight: Tensor) -> tuple[Weights, Tensor]:
    change = torch.randn_like(weight)
    return {"w_norm": change}, weight + change


def dora(weight: Tensor) -> tuple[Weights, Tensor]:
    file, merged = lora(weight)
    size = torch.rand(weight.shape[0], *[1] * (weight.ndim - 1))
    lengths = merged.flatten(1).square().sum(1).sqrt().view_as(size)
    return file | {"dora_scale": size}, size * merged / lengths


def locon(weight: Tensor) -> tuple[Weights, Tensor]:
    """With a core tensor for the kernel."""
    up, mid, down = torch.randn(weight.shape[0], 2), torch.randn(2, 2, 3, 3), torch.randn(2, 16)
    file = {"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down}
    file = {name: t if t.ndim == 4 else t[:, :, None, None] for name, t in file.items()}
    change = torch.einsum("or,rshw,si->oihw", up, mid, down)
    return file | {"alpha": torch.tensor(1.0)}, weight + 0.5 * change


ATTENTION = tuple(
    f"text_encoder.encoder.layers.1.self_attn.{part}"
    for part in ("q_proj", "k_proj", "v_proj", "out_proj")
)

TRAINED = {
    "lora": (lora, (f"unet.{QUERY}", f"unet.{CONV}", *ATTENTION)),
    # diffusers itself does not read a text encoder's layers without that of the output.
    "lora of a part": (lora, (f"unet.{QUERY}", f"text_encoder.{PROJECTION}")),
    "loha": (loha, (f"unet.{QUERY}", f"unet.{CONV}", f"text_encoder.{PROJECTION}")),
    "lokr": (lokr, (f"unet.{QUERY}", f"text_encoder.{PROJECTION}")),
    "full": (full, (f"unet.{QUERY}", f"unet.{CONV}", f"text_encoder.{PROJECTION}")),
    "norm": (norm, (f"unet.{NORM}",)),
    "dora": (dora, (f"unet.{QUERY}", f"unet.{CONV}", f"text_encoder.{PROJECTION}")),
    "locon": (locon, (f"unet.{CONV}",)),
}


def train(kind: str, plain: Weights, path: Path, share: float = 1.0) -> Weights:
    """Writes a file as kohya's and LyCORIS' trainers do; returns the weights with a share of it."""
    make, layers = TRAINED[kind]
    file, merged = {}, {}
    for layer in layers:
        before = plain[f"{layer}.weight"]
        own, after = make(before)
        file |= {f"{kohya(layer)}.{name}": tensor for name, tensor in own.items()}
        merged[f"{layer}.weight"] = before + share * (after - before)
    save_lora(file, path)
    return merged


@pytest.mark.parametrize("kind", TRAINED)
def test_each_kind_is_merged_as_what_it_is(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "style.safetensors"
    plain = weights(tiny_model)
    wanted = train(kind, plain, path, share=-0.5)
    assert_changed(weights(tiny_model, loras=[f"{path}:-0.5"]), plain, wanted)
    if kind in ("loha", "dora"):
        half = weights(tiny_model, torch.float16, loras=[f"{path}:-0.5"])
        assert {value.dtype for value in half.values()} == {torch.float16}
        halved = {name: value.half() for name, value in wanted.items()}
        assert_changed(half, weights(tiny_model, torch.float16), halved, atol=5e-3)


def trained_with_peft(model: Path, path: Path, share: float = 1.0, **options: Any) -> Weights:
    """Writes a file as diffusers' training scripts do; returns the weights with a share of it."""
    unet = load_model(model).components["unet"]
    layers = ["to_q", "to_out.0"]
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=layers, **options))
    state = {name: torch.rand_like(v) for name, v in get_peft_model_state_dict(unet).items()}
    old = {name.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): v
           for name, v in state.items()}  # fmt: skip
    diffusers.StableDiffusionPipeline.save_lora_weights(
        path.parent, unet_lora_layers=old, weight_name=path.name
    )
    merged = {}
    for name, down in state.items():
        if "lora_A" in name:
            layer = name.removesuffix(".lora_A.weight")
            weight = unet.get_submodule(layer).base_layer.weight.detach()
            weight = weight + share * state[name.replace("lora_A", "lora_B")] @ down
            if options.get("use_dora"):
                size = state[f"{layer}.lora_magnitude_vector"]
                weight = size[:, None] * weight / weight.norm(dim=1, keepdim=True)
            merged[f"unet.{layer}.weight"] = weight
    return merged


@pytest.mark.parametrize("options", [{}, {"use_dora": True}])
def test_files_of_diffusers(tiny_model: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """By their folder, which may hold others."""
    path = tmp_path / "pytorch_lora_weights.safetensors"
    plain = weights(tiny_model)
    wanted = trained_with_peft(tiny_model, path, share=0.3, **options)
    assert wanted
    (tmp_path / "other.safetensors").write_bytes(b"")
    assert_changed(weights(tiny_model, loras=[f"{tmp_path}:0.3"]), plain, wanted, atol=1e-4)


def test_several(tiny_model: Path, tmp_path: Path) -> None:
    """One upon the other, of whatever kinds."""
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    plain = weights(tiny_model)
    half = plain | train("lora", plain, first, share=0.5)
    wanted = train("loha", half, second)
    both = weights(tiny_model, loras=[f"{first}:0.5", f"{second}:1"])
    assert_changed(both, half, wanted)


@pytest.mark.parametrize("make", [lora, loha])
def test_names_of_sdxl(tmp_path: Path, make: Callable[[Tensor], tuple[Weights, Tensor]]) -> None:
    """Those of the original code, and a second text encoder."""
    model = save_tiny_sdxl(tmp_path / "xl")
    names = {
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q": (
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
        ),
        "lora_unet_input_blocks_1_0_in_layers_2": "unet.down_blocks.0.resnets.0.conv1",
        "lora_unet_output_blocks_3_2_conv": "unet.up_blocks.1.upsamplers.0.conv",
        "lora_unet_input_blocks_2_0_op": "unet.down_blocks.0.downsamplers.0.conv",
        "lora_unet_middle_block_1_transformer_blocks_0_ff_net_2": (
            "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2"
        ),
        "lora_unet_time_embed_2": "unet.time_embedding.linear_2",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": "text_encoder.encoder.layers.0.mlp.fc1",
        "lora_te2_text_model_encoder_layers_0_self_attn_k_proj": (
            "text_encoder_2.encoder.layers.0.self_attn.k_proj"
        ),
    }
    components = load_model(model).components
    file, wanted = {}, {}
    for stem, name in names.items():
        part, _, layer = name.partition(".")
        own, merged = make(layer_of(components, part, layer).weight.detach())
        file |= {f"{stem}.{weight}": tensor for weight, tensor in own.items()}
        wanted[part, layer] = merged
    save_lora(file, tmp_path / "style.safetensors")
    changed = load_model(model, loras=[tmp_path / "style.safetensors"]).components
    for (part, layer), merged in wanted.items():
        now = layer_of(changed, part, layer).weight
        torch.testing.assert_close(now, merged, rtol=1e-5, atol=1e-5)


def layer_of(components: Any, part: str, layer: str) -> Any:
    module = components[part]
    # With the projection it has one level more.
    return getattr(module, "text_model", module).get_submodule(layer)


@pytest.mark.parametrize("kind", ["lora", "loha"])
def test_layers_that_fit_nothing_are_told(
    tiny_model: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "style.safetensors"
    plain = weights(tiny_model)
    wanted = train(kind, plain, path)
    strange, _ = TRAINED[kind][0](torch.zeros(16, 16))
    known = load_file(path)
    for number in range(4):
        stem = f"lora_unet_down_blocks_7_attentions_{number}_proj_in"
        known |= {f"{stem}.{name}": tensor.clone() for name, tensor in strange.items()}
    save_lora(known | {"bundle_emb.one": torch.zeros(2)}, path)
    with caplog.at_level(logging.WARNING, "pnpvideo"):
        assert_changed(weights(tiny_model, loras=[path]), plain, wanted)
    (message,) = [r.getMessage() for r in caplog.records if "not in the model" in r.getMessage()]
    total = len(TRAINED[kind][1]) + 5
    assert message.startswith(f"5 of {total} layers of {path} are not in the model: ")
    assert message.endswith(", ...")


def zeros(*names: str, width: int = 16) -> Weights:
    """LoRA of layers, by the beginning of their weights' names."""
    ends = [("down.weight", (2, width)), ("up.weight", (16, 2))]
    return {f"{name}{end}": torch.zeros(shape) for name in names for end, shape in ends}


@pytest.fixture(scope="module")
def stock(tiny_model: Path) -> Any:
    return diffusers.StableDiffusionPipeline.from_pretrained(tiny_model)


STEM = kohya(f"unet.{QUERY}")
KEY2_STEM = kohya(f"unet.{KEY2}")
METADATA = {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"some.weight": torch.zeros(2)}, "it names none of the model's layers"),
        (zeros("unet.down_blocks.7.to_q.lora."), "it names none of the model's layers"),
        (zeros(f"unet.{QUERY}.lora.", width=99), "has 99 inputs and the model 16"),
        (zeros(f"{KEY2_STEM}.lora_", width=768), "it is for Stable Diffusion 1.x;"),
        (zeros(f"{KEY2_STEM}.lora_", width=1024), "it is for Stable Diffusion 2.x;"),
        (zeros(f"{KEY2_STEM}.lora_", width=2048), "it is for SDXL;"),
        (zeros(f"{STEM}.lora_", "lora_te2_text_model_x.lora_"), "it is for SDXL;"),
        (zeros("lora_unet_double_blocks_0_img_attn_qkv.lora_"), "it is for FLUX;"),
        (zeros("transformer.single_transformer_blocks.0.x.lora."), "it is for FLUX;"),
        (zeros("lora_unet_joint_blocks_0_x.lora_"), "it is for Stable Diffusion 3;"),
        (zeros("diffusion_model.blocks.0.x.lora_"), "it is for a transformer;"),
        ({f"{STEM}.on_input": torch.tensor(1), f"{STEM}.weight": torch.ones(16)}, "IA3|on_input"),
        ({f"{STEM}.new_kind": torch.zeros(2)}, "new_kind, which is not a known kind"),
        (zeros(f"{STEM}.lora_") | {f"{STEM}.dora_scale": torch.ones(1, 16)}, "not a LoRA for this"),
    ],
)
def test_what_is_none_for_this_model(
    stock: Any, tmp_path: Path, content: Weights, message: str
) -> None:
    path = tmp_path / "style.safetensors"
    save_lora(content, path)
    with pytest.raises(InputError, match=message) as refused:
        merge_lora(stock, path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_what_a_file_says_of_itself(
    tiny_model: Path, tmp_path: Path, cli: Cli, picture: Path
) -> None:
    path = tmp_path / "style.safetensors"
    save_file(zeros("lora_unet_input_blocks_4_1_proj_in.lora_"), path, METADATA)
    code, _, err = cli(str(picture), "--prompt", "x", "--lora", f"{path}:0.8")
    assert code == 2
    assert "it is for stable-diffusion-xl-v1-base/lora" in err
    assert err.count("\n") == 1


def test_a_run_is_repeated_with_its_weights(
    tiny_model: Path, tmp_path: Path, cli: Cli, picture: Path
) -> None:
    """From the settings that it writes, in which paths are whole."""
    train("loha", weights(tiny_model), tmp_path / "style.safetensors")
    options = [str(picture), "--prompt", "x", "--steps", "2", "-o", "out.png", "--size", "16x16"]
    results = []
    for lora in ([], ["--lora", "style.safetensors:0.3"], ["--lora", "style.safetensors"]):
        code, out, err = cli(*options, *lora, "--overwrite")
        assert (code, out.splitlines()[-1:]) == (0, ["out.png"]), err
        results.append((tmp_path / "out.png").read_bytes())
        if "0.3" in str(lora):
            (tmp_path / "out.png.yaml").rename(tmp_path / "again.yaml")
    assert len(set(results)) == 3
    code, _, err = cli("--config", "again.yaml", "--overwrite")
    assert code == 0, err
    assert (tmp_path / "out.png").read_bytes() == results[1]


def test_paths_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drive = Path("C:\\style.safetensors")
    for path in (drive, Path("a:0.5.safetensors"), Path("one") / "b.safetensors"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert find_lora(str(drive)) == (drive, 1.0)
    assert find_lora(f"{drive}:0.8") == (drive, 0.8)
    assert find_lora(f"{drive}:-1e-1") == (drive, -0.1)
    assert find_lora("a:0.5.safetensors") == (Path("a:0.5.safetensors"), 1.0)
    assert find_lora("one:2") == (Path("one") / "b.safetensors", 2.0)
    for wrong in ("D:\\none.safetensors", "one/d.safetensors:much", "one/d.safetensors"):
        with pytest.raises(InputError) as refused:
            find_lora(wrong)
        assert str(refused.value) == f"there is no LoRA file {wrong}; give a .safetensors file"
    for weight in ("much", "nan", "0,8", ""):
        with pytest.raises(InputError) as refused:
            find_lora(f"one/b.safetensors:{weight}")
        assert str(refused.value) == (
            f"the weight of one/b.safetensors is {weight!r}; give a number, such as 0.8"
        )
    (tmp_path / "one" / "c.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"one \.safetensors file; it has b\.safetensors, c\."):
        find_lora("one:0.5")
    with pytest.raises(InputError, match=r"not a LoRA for this model"):
        load_model(loras=["one/c.safetensors"])
    (tmp_path / "lora.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"give a \.safetensors file"):
        find_lora("lora.pt")


def test_only_lora_is_loaded_to_be_switched(tiny_model: Path, tmp_path: Path) -> None:
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model)
    plain = weights(tiny_model)
    for kind, name in {"dora": "DoRA", "loha": "LoHa", "full": "full-difference"}.items():
        train(kind, plain, tmp_path / "a.safetensors")
        for given in (
            tmp_path,
            tmp_path / "a.safetensors",
            load_file(tmp_path / "a.safetensors"),
        ):
            with pytest.raises(InputError, match=f"holds {name}, which can be merged but not"):
                pipeline.load_lora_weights(given)
    train("lora", plain, tmp_path / "a.safetensors")
    pipeline.load_lora_weights(tmp_path, weight_name="a.safetensors", adapter_name="a")
    assert pipeline.get_active_adapters() == ["a"]
