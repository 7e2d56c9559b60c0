"""Wan's parts: two transformers, what saves memory, LoRA, and folders that cannot be used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import flow_models
import pytest
import torch
from models import save_lora
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.device import set_aside
from pnpvideo.models.flow.family import Experts
from pnpvideo.models.network import Batch
from pnpvideo.pipelines.flow import PnPFlowPipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two transformers."""
    return flow_models.save_tiny_wan_a14b(tmp_path_factory.mktemp("wan") / "a14b")


def load(folder: Path, **options: Any) -> PnPFlowPipeline:
    return PnPFlowPipeline.from_pretrained(folder, **{"dtype": torch.float32, **options})


@torch.no_grad()
def predicted(pipeline: PnPFlowPipeline, *timesteps: float) -> list[Tensor]:
    model = pipeline.model
    texts = model.encode_texts(["a stone"])
    latents = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    with model.network() as network:
        return [
            network.predict(Batch(latents=latents, timestep=timestep, texts=texts))
            for timestep in timesteps
        ]


def test_each_transformer_predicts_on_its_side_of_the_boundary(folder: Path) -> None:
    pipeline = load(folder)
    calls: list[str] = []
    for name in ("transformer", "transformer_2"):
        getattr(pipeline.pipe, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    predicted(pipeline, 999.0, 875.0, 874.0, 0.0)
    assert calls == ["transformer", "transformer", "transformer_2", "transformer_2"]
    own = pipeline.model.identity(controlled=False)
    with torch.no_grad():
        pipeline.pipe.transformer_2.proj_out.bias.add_(1)
    changed = pipeline.model.identity(controlled=False)
    pipeline.pipe.register_to_config(boundary_ratio=0.9)
    moved = pipeline.model.identity(controlled=False)
    assert len({one["model"] for one in (own, changed, moved)}) == 3
    with pytest.raises(InputError, match="no transformer_2, which predicts at timestep 300"):
        Experts(first=1, boundary=875).at(300)


def test_savings_of_memory_reach_both_transformers(folder: Path) -> None:
    """Layers that are loaded for their work change nothing; weights in 8 bits change little."""
    found = []
    for quantize, offloaded in ((None, False), (None, True), ("fp8", False), ("fp8", True)):
        pipeline = load(folder, quantize=quantize)
        if offloaded:
            pipeline.enable_layer_offload(torch.device("cpu"))
        found.append(torch.cat(predicted(pipeline, 950.0, 300.0)))
        for one in pipeline.model.experts.present:
            weight = one.blocks[0].attn1.to_q.weight
            assert weight.dtype == (torch.float8_e4m3fn if quantize else torch.float32)
    assert pipeline.model.dtype == torch.float32
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])
    assert 0 < float((found[0] - found[2]).norm() / found[0].norm()) < 0.2


def test_a_transformer_that_waits_leaves_the_device() -> None:
    """Against diffusers, which would leave it there when inversion goes from low noise to high."""
    moved: list[object] = []

    class Module(torch.nn.Linear):
        def to(self, *given: Any, **_: Any) -> "Module":
            moved.append(given[0])
            return self

    module = Module(1, 1)
    set_aside(module)
    assert not moved
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(module, "meta")
    moved.clear()
    set_aside(module)
    assert moved == ["cpu"]


@pytest.mark.parametrize(
    ("file", "merged"),
    [
        ("style.safetensors", (True, True)),
        ("style_high_noise.safetensors", (True, False)),
        ("lownoise-style.safetensors", (False, True)),
        ("wan-low.safetensors", (False, True)),
        ("highland.safetensors", (True, True)),
    ],
)
def test_a_lora_is_merged_into_the_transformers_it_is_for(
    file: str, merged: tuple[bool, bool], folder: Path, tmp_path: Path
) -> None:
    """In diffusers' names, and in those of Wan's makers."""
    weights = {
        "lora_A.weight": torch.randn(2, 24),
        "lora_B.weight": torch.randn(24, 2),
    }
    change = weights["lora_B.weight"] @ weights["lora_A.weight"]
    plain = load(folder).model.experts.present
    for layer in ("transformer.blocks.1.attn1.to_q", "diffusion_model.blocks.1.self_attn.q"):
        state = {f"{layer}.{name}": weight for name, weight in weights.items()}
        path = save_lora(state, tmp_path / file)
        found = load(folder, loras=[f"{path}:0.5"]).model.experts.present
        for before, after, is_changed in zip(plain, found, merged, strict=True):
            difference = after.blocks[1].attn1.to_q.weight - before.blocks[1].attn1.to_q.weight
            torch.testing.assert_close(difference, 0.5 * change * is_changed)


def index(folder: Path, **values: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def config(folder: Path, part: str, **values: object) -> None:
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    path = folder / part / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_transformer(folder: Path) -> None:
    shutil.rmtree(folder / "transformer_2")
    flow_models.tiny_wan(num_layers=1).save_pretrained(folder / "transformer_2")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no second transformer": (
        lambda at: index(at, transformer_2=[None, None]),
        "has no transformer_2, which predicts at timestep 0",
    ),
    "no first transformer": (
        lambda at: index(at, transformer=[None, None]),
        "has no transformer, which predicts at timestep 999",
    ),
    "no transformer at all": (
        lambda at: index(at, transformer=[None, None], transformer_2=[None, None]),
        "has no transformer, and Wan needs one",
    ),
    "no boundary": (
        lambda at: index(at, boundary_ratio=None),
        "has two transformers, and its model_index.json has no boundary_ratio",
    ),
    "a boundary in words": (
        lambda at: index(at, boundary_ratio="high"), "boundary_ratio is 'high'",
    ),
    "transformers of two sizes": (other_transformer, "have different configurations"),
    "levels of another kind": (
        lambda at: config(at, "scheduler", use_flow_sigmas=False), "has use_flow_sigmas False",
    ),
    "levels that do not end at 0": (
        lambda at: config(at, "scheduler", final_sigmas_type="sigma_min"), "needs 'zero'",
    ),
    "a shift that nothing gives": (
        lambda at: config(at, "scheduler", use_dynamic_shifting=True), "has use_dynamic_shifting",
    ),
    "a scheduler of no kind": (
        lambda at: index(at, scheduler=["diffusers", "DDIMScheduler"]),
        "needs a UniPCMultistepScheduler or FlowMatchEulerDiscreteScheduler; put one into its",
    ),
    "another autoencoder": (
        lambda at: index(at, vae=["diffusers", "AutoencoderKL"]), "Wan needs a AutoencoderKLWan",
    ),
    "a factor in time of 8": (
        lambda at: config(at, "vae", scale_factor_temporal=8), "one latent frame of 4 frames",
    ),
    "a factor in space that is not its own": (
        lambda at: config(at, "vae", scale_factor_spatial=8), "scale_factor_spatial is 8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_folders(kind: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    damage, words = DAMAGE[kind]
    damage(copy)
    with pytest.raises(InputError) as raised:
        load(copy)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_transformer_is_enough_where_it_always_predicts(folder: Path, tmp_path: Path) -> None:
    """A boundary of 0 leaves all to the first, and one above all timesteps to the second."""
    for number, (ratio, lost) in enumerate([(0.0, "transformer_2"), (1.0, "transformer")]):
        copy = shutil.copytree(folder, tmp_path / str(number))
        index(copy, boundary_ratio=ratio, **{lost: [None, None]})
        pipeline = load(copy)
        assert getattr(pipeline.pipe, lost) is None
        assert len(pipeline.model.experts.present) == 1
        predicted(pipeline, 999.0, 0.0)


def test_the_file_of_a_transformer(folder: Path, tmp_path: Path) -> None:
    """In place of the only one of a model; of a model with two, it is refused."""
    single = flow_models.save_tiny_wan(tmp_path / "single")
    file = single / "transformer" / "diffusion_pytorch_model.safetensors"
    own = file.rename(tmp_path / "mine.safetensors")
    pipeline = load(own, config=single)
    assert isinstance(pipeline.pipe.transformer, diffusers.WanTransformer3DModel)
    with pytest.raises(InputError, match="has 2 transformers, and a file holds one"):
        load(own, config=folder)
