"""Transformers with weights in 8 or 4 bits, by the libraries of the extra [quantize]."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import flow_models
import numpy as np
import pytest
import torch
from command import Cli, pixels, save_frames
from models import save_lora
from PIL import Image
from torch import Tensor, nn

from pnpvideo import ModelSettings, PnPFlowPipeline, load_pipeline
from pnpvideo.errors import InputError
from pnpvideo.models.network import Batch
from pnpvideo.options.settings import Settings
from pnpvideo.options.values import Quantization
from pnpvideo.run.run import run

QUERIES = "transformer_blocks.0.attn.to_q"
"""A layer of FLUX.1, 64 x 64."""
HOW: tuple[Quantization, ...] = ("int8", "nf4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of FLUX.1's kind, with 64 channels, which is the least that is quantized."""
    folder = flow_models.save_tiny_flux(
        tmp_path_factory.mktemp("quantized") / "flux",
        **{"transformer_blocks.1": "qk", "single_transformer_blocks.0": "vf"},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(14)
        wide = flow_models.tiny_flux(attention_head_dim=32, axes_dims_rope=(8, 12, 12))
    wide.save_pretrained(folder / "transformer")
    return folder


@pytest.fixture(scope="module")
def load(folder: Path) -> Callable[[Quantization | None], PnPFlowPipeline]:
    """Returns the model with its weights in so many bits, loaded once."""
    loaded: dict[Quantization | None, PnPFlowPipeline] = {}

    def load(how: Quantization | None) -> PnPFlowPipeline:
        if how not in loaded:
            loaded[how] = PnPFlowPipeline.from_pretrained(folder, dtype=torch.float32, quantize=how)
            loaded[how].set_progress_bar_config(disable=True)
        return loaded[how]

    return load


def size_of(layer: Any) -> float:
    """The bytes of a layer's weights, with their scales, for each weight."""
    # Beside them, each layer has a table of what its codes mean.
    state = layer.state_dict().items()
    held = [value for name, value in state if name == "weight" or name.endswith("absmax")]
    if hasattr(held[0], "__tensor_flatten__"):
        held = [getattr(held[0], name) for name in held[0].__tensor_flatten__()[0]]
    count = layer.in_features * layer.out_features
    return sum(tensor.numel() * tensor.element_size() for tensor in held) / count


def latents(pipeline: PnPFlowPipeline) -> Tensor:
    """A result, from an inversion with injection into blocks."""
    image = Image.fromarray(np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8))
    seed = torch.Generator().manual_seed(0)
    size = {"width": 32, "height": 32}
    output = pipeline("a stone", image, generator=seed, output_type="latent", **size)
    return output.frames  # type: ignore[return-value]


def test_weights_and_results(load: Callable[[Quantization | None], PnPFlowPipeline]) -> None:
    """Weights are really in 8 and 4 bits, and results are near; int8 is nearer than nf4."""
    plain, change = latents(load(None)), {}
    for how, limits in (("int8", (1.0, 1.2)), ("nf4", (0.5, 0.7))):
        pipeline = load(how)  # type: ignore[arg-type]
        transformer = pipeline.pipe.transformer
        for name in (QUERIES, "single_transformer_blocks.1.proj_mlp", "norm_out.linear"):
            assert limits[0] < size_of(transformer.get_submodule(name)) < limits[1]
        # Too small: 16 or 32 channels.
        for small in ("x_embedder", "proj_out", "context_embedder"):
            layer = transformer.get_submodule(small)
            assert type(layer) is nn.Linear
            assert layer.weight.dtype == torch.float32
            assert type(layer.weight) is nn.Parameter
        assert pipeline.model.dtype == torch.float32
        change[how] = float((latents(pipeline) - plain).norm() / plain.norm())
    assert 0 < change["int8"] < 0.02
    assert 3 * change["int8"] < change["nf4"] < 0.3


def test_rounding_of_weights(load: Callable[[Quantization | None], PnPFlowPipeline]) -> None:
    """Against the definitions: int8 by rows, and nf4 by the nearest of its values in blocks."""
    from bitsandbytes.functional import dequantize_4bit, get_4bit_type

    def layer(how: Quantization | None) -> Any:
        return load(how).pipe.transformer.get_submodule(QUERIES)

    weight = layer(None).weight.detach().double()
    rows = weight.abs().amax(1, keepdim=True) / 127.5
    found = layer("int8").weight.dequantize().double()
    assert ((found - weight).abs() <= 0.51 * rows).all()
    own = layer("nf4").weight
    found = dequantize_4bit(own.data, own.quant_state).double()
    values = get_4bit_type("nf4", device="cpu").double()
    blocks = weight.view(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    nearest = values[(blocks[..., None] / scale[..., None] - values).abs().argmin(-1)] * scale
    # The scales are rounded, too.
    torch.testing.assert_close(found.view(-1, 64), nearest, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("how", HOW)
def test_a_lora_is_merged_before(how: Quantization, folder: Path, tmp_path: Path) -> None:
    name = f"transformer.{QUERIES}"
    factors = {"A": torch.full((2, 64), 0.5), "B": torch.full((64, 2), 0.5)}
    lora = {f"{name}.lora_{one}.weight": factor for one, factor in factors.items()}
    path = save_lora(lora, tmp_path / "x.safetensors")
    settings = {"model": str(folder), "device": "cpu", "quantize": how}
    plain, merged = (
        load_pipeline(ModelSettings.of({**settings, "lora": loras})) for loras in ([], [str(path)])
    )
    at = torch.eye(64)
    found = [
        one.model.transformer.get_submodule(QUERIES)(at).detach()  # type: ignore[union-attr]
        for one in (plain, merged)
    ]
    assert not any("lora" in key for key in merged.model.transformer.state_dict())  # type: ignore[union-attr]
    assert float((found[1] - found[0]).mean()) == pytest.approx(0.5, rel=0.05)


def test_the_file_of_a_transformer_and_a_job(
    load: Callable[[Quantization | None], PnPFlowPipeline], folder: Path, tmp_path: Path
) -> None:
    """A file gives the folder's weights; what was inverted is only used with the same ones."""
    parts = shutil.copytree(folder, tmp_path / "parts")
    own = parts / "transformer" / "diffusion_pytorch_model.safetensors"
    file = own.rename(tmp_path / "mine.safetensors")
    settings = {"model": str(file), "model_config": str(parts), "device": "cpu"}
    for how in HOW:
        found = load_pipeline(ModelSettings.of({**settings, "quantize": how}))
        assert found.model.identity(controlled=False) == load(how).model.identity(controlled=False)
    kinds: tuple[Quantization | None, ...] = (None, "fp8", *HOW)
    identities = {load(how).model.identity(controlled=False)["model"] for how in kinds}
    assert len(identities) == 4
    save_frames(tmp_path / "clip", 2)
    values = {"source": str(tmp_path / "clip"), "prompt": ["a stone"], "size": "32x32", "steps": 2}
    values |= {"job": str(tmp_path / "job"), "device": "cpu"}
    passes: dict[object, int] = {}
    for turn, how in enumerate(("int8", "int8", "nf4")):
        pipeline, count = load(how), []  # type: ignore[arg-type, var-annotated]
        hook = pipeline.pipe.transformer.register_forward_hook(lambda *_, n=count: n.append(1))
        output = {"output": f"{tmp_path}/out{turn}/", "seed": turn}
        run(Settings.of(values | output), pipeline, quiet=True)
        hook.remove()
        passes[turn] = len(count)
    # The second time, it is sampled only.
    assert passes[1] < passes[0] == passes[2]


@pytest.mark.parametrize("how", HOW)
def test_both_transformers_of_wan(how: Quantization, tmp_path: Path) -> None:
    """Those of what the model wants in float32 stay, and each predicts as before, nearly."""
    folder = flow_models.save_tiny_wan_a14b(tmp_path / "wan")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        for part in ("transformer", "transformer_2"):
            wide = flow_models.tiny_wan(attention_head_dim=32, ffn_dim=64, freq_dim=64)
            wide.save_pretrained(folder / part)
    found = []
    for quantize in (None, how):
        pipeline = PnPFlowPipeline.from_pretrained(folder, dtype=torch.float32, quantize=quantize)
        model = pipeline.model
        texts = model.encode_texts(["a stone"])
        given = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(1))
        with model.network() as network, torch.no_grad():
            batches = [Batch(latents=given, timestep=at, texts=texts) for at in (950.0, 300.0)]
            found.append([network.predict(batch) for batch in batches])
    for one in model.experts.present:
        assert size_of(one.blocks[0].attn1.to_q) < 1.2
        kept = one.condition_embedder.time_embedder.linear_2
        assert type(kept.weight) is nn.Parameter
        assert kept.weight.dtype == torch.float32
    for plain, quantized in zip(*found, strict=True):
        assert 0 < float((quantized - plain).norm() / plain.norm()) < 0.3


def test_layers_that_are_loaded_for_their_work(
    load: Callable[[Quantization | None], PnPFlowPipeline], folder: Path
) -> None:
    own = PnPFlowPipeline.from_pretrained(folder, dtype=torch.float32, quantize="int8")
    own.set_progress_bar_config(disable=True)
    own.enable_layer_offload(torch.device("cpu"))
    assert torch.equal(latents(own), latents(load("int8")))
    with pytest.raises(InputError, match="offload_layers cannot move weights of 4 bits; give off"):
        load("nf4").enable_layer_offload(torch.device("cpu"))


@pytest.mark.parametrize("how", HOW)
def test_from_files_to_files(
    how: str, folder: Path, cli: Cli, tmp_path: Path, picture: Path
) -> None:
    given = (str(picture), "--prompt", "a stone", "--size", "32x32", "--steps", "2")
    given += ("--quantize", how)
    assert cli(*given, "-o", "out.png", model=str(folder)) == (0, "out.png\n", "")
    assert pixels(tmp_path / "out.png").shape == (32, 32, 3)


def test_what_cannot_be_quantized(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**settings: object) -> str:
        with pytest.raises(InputError) as raised:
            load_pipeline(ModelSettings.of({"model": str(folder), "device": "cpu", **settings}))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    told = refused(quantize="int8", dtype="float16")
    assert "overflows in float16; give --dtype bfloat16, or --quantize nf4 or fp8" in told
    for how in HOW:
        assert "quantize is for models with a transformer" in refused(
            quantize=how, model=str(tiny_model)
        )
    monkeypatch.setattr(diffusers.FluxTransformer2DModel, "is_quantized", True, raising=False)
    assert "are quantized already; leave quantize out" in refused(quantize="nf4")
    for how, library in (("int8", "torchao"), ("nf4", "bitsandbytes")):
        monkeypatch.setattr("pnpvideo.loading.quantize.import_module", missing)
        told = refused(quantize=how)
        assert (
            told
            == f'quantize {how} needs {library}; install it with: pip install "pnpvideo[quantize]"'
        )


def missing(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
