"""LoRA files and their like: found, told apart, and merged into a model's weights."""

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pnpvideo.errors import InputError

_log = logging.getLogger(__name__)

_FOLDERS_FILE = "pytorch_lora_weights.safetensors"
_PREFIXES = {
    "unet": ("unet.", "lora_unet_", "lycoris_"),
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
"""How layers' names begin in diffusers' files and in those of kohya's and LyCORIS' trainers."""
_TRAINERS = tuple(p for names in _PREFIXES.values() for p in names if not p.endswith("."))
_OLD_NAMES = {
    r"\.processor\.to_(\w+)_lora$": r".to_\1",
    r"\.self_attn\.to_(\w+)_lora$": r".self_attn.\1_proj",
    r"\.to_out$": r".to_out.0",
}
"""Layers of attention in older diffusers' files, and as they are called."""
_BLOCKS = {"input_blocks": "down_blocks", "middle_block": "mid_block", "output_blocks": "up_blocks"}
_INNER_NAMES = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
    "0_op": "0_conv",
    "down_blocks_0_0": "conv_in",
    "unet_out_2": "unet_conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}
"""Blocks and layers of the original code's UNet, which SDXL's files name, and diffusers' names."""
_LAYER = re.compile(
    r"(.+?)(\.lora(?:_linear_layer)?\.(?:down|up)\.weight|\.(?:down|up)\.weight"
    r"|\.lora_[AB]\.(?:weight|bias)|\.lora_magnitude_vector(?:\.weight)?|\.alpha)"
)
"""Layer and weight in diffusers' files."""
_PLAIN = ("lora_down.weight", "lora_up.weight", "alpha")
"""The weights of LoRA in kohya's files."""
_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "diff": "full-difference",
    "oft_": "OFT",
    "a1.": "GLoRA",
    "on_input": "IA3",
    "lambda_layer": "T-LoRA",
    "lora_mid": "LoCon (with a core tensor)",
    "dora_scale": "DoRA",
    "w_norm": "norm-difference",
}
"""What kohya's and LyCORIS' trainers make beside LoRA, by how weights' names begin."""
_FAMILIES = {
    r"double_blocks|single_blocks|single_transformer_blocks": "FLUX",
    r"joint_blocks|attn\.add_[qkv]_proj": "Stable Diffusion 3",
    r"lora_te2_|text_encoder_2\.": "SDXL",
    r"^(?:diffusion_model\.|transformer\.|lora_unet_)(?:transformer_)?(?:blocks|layers)": (
        "a transformer"
    ),
}
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
"""By the channels of the texts that cross-attention sees."""


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """layers: by the names in the file, each with its weights by name. metadata: the trainer's."""

    path: Path
    layers: dict[str, dict[str, Tensor]]
    metadata: dict[str, str]

    @property
    def other_kinds(self) -> str:
        """What it holds that diffusers and peft do not load as what it is, '' for nothing."""
        names = {name for weights in self.layers.values() for name in weights}
        strange = [name for name in names if name[:1] not in ("", ".") and name not in _PLAIN]
        kinds = [
            kind for start, kind in _KINDS.items() if any(n.startswith(start) for n in strange)
        ]
        return " and ".join(kinds) or ", ".join(sorted(strange))

    @property
    def family(self) -> str:
        """Which models it is for, in words, '' where nothing says it."""
        for name in ("modelspec.architecture", "ss_base_model_version"):
            if self.metadata.get(name):
                return self.metadata[name]
        for pattern, family in _FAMILIES.items():
            if any(re.search(pattern, layer) for layer in self.layers):
                return family
        for layer, weights in self.layers.items():
            width = _inputs(weights)
            if re.search(r"attn2.+to_[kv]", layer) and width is not None:
                return _WIDTHS.get(width, f"models whose texts have {width} channels")
        return ""


def merge_lora(stock: Any, given: str | Path) -> None:
    """Merge a file, or a folder's, into a diffusers pipeline's weights. Layers that fit nothing
    are told.

    given: the path, perhaps with a weight: "style.safetensors:0.8". InputError where it cannot be.
    """
    path, weight = find_lora(given)
    file = read_lora(path)
    try:
        places = _places(stock, file)
        _check_fit(stock, file, places)
        if file.other_kinds or not _merge_with_peft(stock, file, places, weight):
            _merge_with_lycoris(file, places, weight)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise _misfit(file, " ".join(str(error).split()).split(". ")[0][:300]) from None
    strange = [layer for layer in file.layers if layer not in places]
    if strange:
        shown = ", ".join(strange[:3]) + ", ..." * (len(strange) > 3)
        _log.warning(
            "%d of %d layers of %s fit nothing in the model: %s",
            len(strange), len(file.layers), path, shown,
        )  # fmt: skip


def find_lora(given: str | Path) -> tuple[Path, float]:
    """The file and the weight that are meant. InputError where there is no such file or number."""
    path, weight = Path(given).expanduser(), 1.0
    if not path.exists():
        # What stands after a drive's colon, as in C:\\style.safetensors, is no number.
        head, _, tail = str(given).rpartition(":")
        if head and (number := _number(tail)) is not None:
            path, weight = Path(head).expanduser(), number
        elif head and Path(head).expanduser().exists():
            raise InputError(f"the weight of {head} is {tail!r}; give a number, such as 0.8")
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        usual = path / _FOLDERS_FILE
        if usual not in files and len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            raise InputError(f"the folder {path} must hold one .safetensors file; it has {names}")
        path = usual if usual in files else files[0]
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no LoRA file {path}; give a .safetensors file")
    return path, weight


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_lora(path: Path) -> LoraFile:
    """The layers of a file. InputError where it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return LoraFile(path=path, layers=layers_of(tensors), metadata=file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no LoRA for this model: {error}") from None


def check_loadable(given: Any, weight_name: str | None) -> None:
    """InputError where diffusers would load a file as another kind than it is, or not at all."""
    if isinstance(given, dict):
        file = LoraFile(path=Path("the given LoRA"), layers=layers_of(given), metadata={})
    elif Path(given).exists():
        file = read_lora(Path(given, weight_name) if weight_name else find_lora(given)[0])
    else:
        return
    if file.other_kinds:
        raise InputError(
            f"{file.path} holds {file.other_kinds}, which can be merged and not loaded: give it as "
            "loras=[...] to from_pretrained"
        )


def layers_of(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A file's tensors by layer, and by the name of the weight there."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, weight = key, ""
        if found := _LAYER.fullmatch(key):
            layer, weight = found.groups()
        if key.startswith(_TRAINERS):
            layer, _, weight = key.partition(".")
        layers.setdefault(layer, {})[weight] = tensor
    return layers


def _places(stock: Any, file: LoraFile) -> dict[str, Any]:
    """By the file's name of a layer: the model's module, where it has one."""
    modules = dict(_named_layers(stock))
    blocks = {layer: layer for layer in file.layers if layer.startswith("lora_unet_")}
    numbered = _maybe_map_sgm_blocks_to_diffusers(dict(blocks), stock.unet.config)
    renamed = {layer: name for name, layer in numbered.items()}
    found = {}
    for layer in file.layers:
        name = renamed.get(layer, layer)
        for old, new in (_OLD_NAMES | _BLOCKS).items():
            name = re.sub(old, new, name)
        for theirs, ours in _INNER_NAMES.items():
            if name not in modules:
                name = re.sub(rf"{theirs}$", ours, name)
        if name in modules:
            found[layer] = modules[name]
    return found


def _named_layers(stock: Any) -> Iterator[tuple[str, Any]]:
    for part, prefixes in _PREFIXES.items():
        module = getattr(stock, part, None)
        for name, layer in module.named_modules() if module is not None else ():
            # transformers 5 has this level no longer, and files go on to name it.
            for inner in (name, f"text_model.{name}") if part != "unet" else (name,):
                for prefix in prefixes:
                    joined = inner if prefix.endswith(".") else inner.replace(".", "_")
                    yield prefix + joined, layer


def _check_fit(stock: Any, file: LoraFile, places: dict[str, Any]) -> None:
    """InputError where a file is for another model."""
    if not places:
        raise _misfit(file, "it names none of the model's layers")
    second = _PREFIXES["text_encoder_2"]
    if getattr(stock, "text_encoder_2", None) is None and any(
        layer.startswith(second) for layer in file.layers
    ):
        raise _misfit(file, "it has layers for a second text encoder")
    for layer, module in places.items():
        inputs, wanted = _inputs(file.layers[layer]), [*module.weight.shape, 0][1]
        if inputs not in (None, wanted):
            raise _misfit(file, f"{layer} has {inputs} inputs where the model has {wanted}")


def _inputs(weights: dict[str, Tensor]) -> int | None:
    """The channels that go into a layer, as its weights say it."""
    for name, tensor in weights.items():
        if name.endswith(("down.weight", "lora_A.weight", "diff")) and tensor.ndim > 1:
            return int(tensor.shape[1])
    return None


def _misfit(file: LoraFile, why: str) -> InputError:
    family = f"it is for {file.family}; " if file.family else ""
    return InputError(f"{file.path} is no LoRA for this model: {family}{why}")


def _merge_with_peft(stock: Any, file: LoraFile, places: dict[str, Any], weight: float) -> bool:
    """Whether diffusers can read the file, and it is merged."""
    if any(layer.startswith(_TRAINERS) for layer in file.layers):
        # Without the layers that fit nothing, whose names diffusers cannot convert.
        state = {f"{layer}.{n}": t for layer in places for n, t in file.layers[layer].items()}
        try:
            stock.load_lora_weights(state)
        except ValueError:
            # Such as some layers of a text encoder's and not others.
            stock.unload_lora_weights()
            return False
    else:
        path = file.path
        stock.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    stock.fuse_lora(lora_scale=weight)
    stock.unload_lora_weights()
    return True


def _merge_with_lycoris(file: LoraFile, places: dict[str, Any], weight: float) -> None:
    try:
        # An optional extra, and slow to import.
        from lycoris.modules import get_module, make_module
    except ImportError:
        raise InputError(
            f"{file.path} holds {file.other_kinds}, which lycoris-lora merges; install it with "
            'pip install "pnpvideo[lycoris]"'
        ) from None
    for layer, module in places.items():
        own = {name: tensor.float() for name, tensor in file.layers[layer].items()}
        named = {f"{layer}.{name}": tensor for name, tensor in _with_alpha(own).items()}
        dtype = module.weight.dtype
        module.float()
        kind, tensors = get_module(named, layer)
        change = None if kind is None else make_module(kind, tensors, layer, module)
        if change is None:
            raise InputError(
                f"{file.path} cannot be merged: {layer} has {', '.join(file.layers[layer])}, "
                "which is no known kind"
            )
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        with torch.no_grad():
            change.merge_to()
            for name, now in module.named_parameters():
                # LyCORIS' own weight leaves a part of DoRA even where it is 0.
                now.lerp_(before.get(name, torch.zeros_like(now)), 1 - weight)
        module.to(dtype)


def _with_alpha(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer's weights with an alpha; 0 is what LyCORIS takes for none.

    LyCORIS 4.1 trains LoHa and LoKr with alpha / rank, and merges them with its square. So it goes
    into one of their factors.
    """
    alpha = weights.get("alpha", torch.tensor(0.0))
    factors = [n for n in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if n in weights]
    if not factors:
        return {"alpha": alpha, **weights}
    factor = weights[factors[0]]
    scale = alpha / len(factor) if alpha else 1.0
    return weights | {"alpha": torch.tensor(0.0), factors[0]: scale * factor}
