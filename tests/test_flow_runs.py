"""Flow-matching transformers through the front door: from files to files."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import flow_models
import numpy as np
import pytest
import torch
from command import Cli, pixels, save_frames
from page import wait_until
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pnpvideo import ModelSettings, PnPFlowPipeline, load_pipeline
from pnpvideo.cli import main
from pnpvideo.errors import InputError
from pnpvideo.models.flow.flux_1 import Flux1
from pnpvideo.options.settings import Settings
from pnpvideo.run.run import run

SIZE = "48x32"
VALUES = {"prompt": ["a stone"], "size": SIZE, "device": "cpu"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("flow")
    return {
        "sd3": flow_models.save_tiny_sd3(place / "sd3", **{"transformer_blocks.0-2": "kv"}),
        "flux": flow_models.save_tiny_flux(
            place / "flux", **{"transformer_blocks.1": "qk", "single_transformer_blocks.0": "vf"}
        ),
    }


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_picture_and_a_clip_with_a_mask(
    name: str, folders: Mapping[str, Path], cli: Cli, tmp_path: Path, picture: Path
) -> None:
    model = str(folders[name])
    done = cli(str(picture), "--prompt", "a stone", "--size", SIZE, "-o", "out.png", model=model)
    assert done == (0, "out.png\n", "")
    assert pixels(tmp_path / "out.png").shape == (32, 48, 3)
    assert (pixels(tmp_path / "out.png") != pixels(picture)).any()
    save_frames(tmp_path / "clip", 3)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 16:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    area = ("--mask", "mask.png", "--mask-feather", "0", "--blend-radius", "0")
    done = cli("clip", "--prompt", "a stone", "--size", SIZE, *area, "-o", "out/", model=model)
    assert done == (0, "out\n", "")
    made = sorted((tmp_path / "out").glob("*.png"))
    assert len(made) == 3
    for path, source in zip(made, sorted((tmp_path / "clip").iterdir()), strict=True):
        same = (pixels(path) == pixels(source)).all(-1)
        assert same[mask == 0].all()
        assert not same[mask > 0].all()


@pytest.mark.parametrize(
    ("save", "block"),
    [
        (flow_models.save_tiny_qwen, "transformer_blocks.0"),
        (flow_models.save_tiny_z_image, "layers.1"),
        (flow_models.save_tiny_klein, "single_transformer_blocks.0"),
    ],
)
def test_a_picture_with_other_families(
    save: Callable[..., Path], block: str, cli: Cli, tmp_path: Path, picture: Path
) -> None:
    model = str(save(tmp_path / "model", **{block: "qkv"}))
    run = (str(picture), "--prompt", "a stone", "--size", SIZE, "--steps", "2")
    run += ("--guidance-scale", "20")
    assert cli(*run, "--tau-a", "1", "-o", "out.png", model=model)[:2] == (0, "out.png\n")
    assert cli(*run, "--tau-a", "0", "-o", "free.png", model=model)[:2] == (0, "free.png\n")
    assert (pixels(tmp_path / "out.png") != pixels(tmp_path / "free.png")).any()
    if block == "layers.1":
        code, _, told = cli(*run, "--size", "264x16", "-o", "long.png", model=model)
        assert code == 2
        assert "33 tokens long, and this model knows the positions of 32" in told


def test_a_stopped_run_goes_on(folders: Mapping[str, Path], tmp_path: Path) -> None:
    pipeline = load_pipeline(ModelSettings.of({"model": str(folders["flux"]), "device": "cpu"}))
    assert isinstance(pipeline, PnPFlowPipeline)
    save_frames(tmp_path / "clip", 3)
    values = {**VALUES, "source": str(tmp_path / "clip"), "batch_size": 2, "eta": 0.3}

    def stop(step: int, timestep: float, latents: Tensor) -> None:
        if step == 1:
            raise KeyboardInterrupt

    part = Settings.of(values | {"output": f"{tmp_path / 'out'}/", "job": str(tmp_path / "job")})
    with pytest.raises(KeyboardInterrupt):
        run(part, pipeline, quiet=True, after_step=stop)
    run(part, pipeline, quiet=True)
    run(Settings.of(values | {"output": f"{tmp_path / 'whole'}/"}), pipeline, quiet=True)
    for path in sorted((tmp_path / "whole").glob("*.png")):
        np.testing.assert_array_equal(pixels(path), pixels(tmp_path / "out" / path.name))


def test_a_batch_and_a_grid(
    folders: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "sources", 2)
    how = ("--model", str(folders["sd3"]), "--prompt", "a stone", "--size", SIZE, "--device", "cpu")
    assert main(["batch", "sources", "-o", "results", *how, "--quiet"]) == 0
    made = sorted((tmp_path / "results").rglob("source*.png"))
    assert len(made) == 2
    assert pixels(made[0]).shape == (32, 48, 3)
    grid = ("--grid", "tau_a=0,0.5", "--grid", "guidance_scale=1,3", "--side", "48")
    source = str(tmp_path / "sources" / "source0.png")
    assert main(["grid", source, *grid, "-o", "grid", *how, "--quiet"]) == 0
    with next((tmp_path / "grid").glob("*.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert len({pixels(Path(row["result"])).tobytes() for row in rows}) == 4


def test_the_pipeline_in_python(folders: Mapping[str, Path]) -> None:
    pipeline = PnPFlowPipeline.from_pretrained(folders["sd3"], dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = Image.fromarray(np.full((32, 32, 3), 128, np.uint8))
    seen: list[Tensor] = []

    def after(pipe: object, step: int, timestep: Tensor, given: dict[str, Tensor]) -> None:
        seen.append(given["latents"])

    output = pipeline(
        ["a stone", "a star"],
        image,
        width=32,
        height=32,
        generator=torch.Generator().manual_seed(0),
        callback_on_step_end=after,
    )
    assert [len(frames) for frames in output.frames] == [1, 1]
    assert [latents.shape for latents in seen] == [(2, 1, 4, 8, 8)] * 4
    own = pipeline.model.encode_texts(["a stone"])
    again = pipeline(
        prompt_embeds=own.hidden,
        pooled_prompt_embeds=own.pooled,
        trajectory=output.trajectory,
        output_type="np",
    )
    assert np.allclose(again.frames[0][0], np.asarray(output.frames[0][0]) / 255, atol=2e-2)


def test_a_mask_of_uniedit_is_of_packed_tokens(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = PnPFlowPipeline.from_pretrained(folders["flux"], dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator())
    values = {"method": "uniedit", "width": 32, "height": 32, "output_type": "latent"}
    found = []
    for packing in (2, 1):
        monkeypatch.setattr(Flux1, "packing", packing)
        found.append(pipeline("a stone", Image.fromarray(noise.numpy()), **values).frames)
    assert 1e-3 < (found[0] - found[1]).norm() / found[1].norm() < 0.5


def test_a_transformer_in_a_file_beside_a_folder(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    """In diffusers' names, in place of the folder's own, which is not read."""
    whole = load_pipeline(ModelSettings.of({"model": str(folders["flux"]), "device": "cpu"}))
    folder = shutil.copytree(folders["flux"], tmp_path / "parts")
    own = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file = own.rename(tmp_path / "mine.safetensors")
    settings = {"model": str(file), "model_config": str(folder), "device": "cpu"}
    found = load_pipeline(ModelSettings.of(settings))
    weights = [one.model.transformer.state_dict() for one in (whole, found)]  # type: ignore[union-attr]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert found.model.layers == whole.model.layers
    save_file({"transformer_blocks.0.attn.to_q.weight": torch.zeros(16, 16)}, file)
    with pytest.raises(InputError, match="is not a whole transformer of FLUX"):
        load_pipeline(ModelSettings.of(settings))
    with pytest.raises(InputError, match="a model config is for the file of a transformer"):
        load_pipeline(ModelSettings.of(settings | {"model": str(folders["flux"])}))


def test_texts_are_embedded_once_by_the_same_encoders(folders: Mapping[str, Path]) -> None:
    pipeline = PnPFlowPipeline.from_pretrained(folders["flux"], dtype=torch.float32)
    encoder, passes = pipeline.pipe.text_encoder_2, []
    encoder.register_forward_hook(lambda *_: passes.append(1))
    first = pipeline.model.encode_texts(["a stone", "a star", "a stone"])
    again = pipeline.model.encode_texts(["a star"])
    assert len(passes) == 2
    assert torch.equal(again.hidden, first.hidden[1:2])
    with torch.no_grad():
        encoder.encoder.final_layer_norm.weight.mul_(2)
    changed = pipeline.model.encode_texts(["a star"])
    torch.testing.assert_close(changed.hidden, 2 * again.hidden)


def test_savings_of_memory(folders: Mapping[str, Path]) -> None:
    """Layers that are loaded for their work change nothing; weights in 8 bits change little."""
    image = Image.fromarray(np.full((32, 32, 3), 128, np.uint8))
    found = []
    for quantize, offloaded in ((None, False), (None, True), ("fp8", False), ("fp8", True)):
        pipeline = PnPFlowPipeline.from_pretrained(
            folders["flux"], dtype=torch.float32, quantize=quantize
        )
        pipeline.set_progress_bar_config(disable=True)
        if offloaded:
            pipeline.enable_layer_offload(torch.device("cpu"))
        seed = torch.Generator().manual_seed(0)
        size = {"width": 32, "height": 32}
        output = pipeline("a stone", image, generator=seed, output_type="latent", **size)
        found.append(output.frames)
    weight = pipeline.pipe.transformer.transformer_blocks[0].attn.to_q.weight
    assert weight.dtype == torch.float8_e4m3fn
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])
    change = float((found[0] - found[2]).norm() / found[0].norm())
    assert 0 < change < 0.2


def test_the_page_and_pictures_of_the_inside(
    folders: Mapping[str, Path], tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio")
    from pnpvideo.web.jobs import JobStore, Visitor
    from pnpvideo.web.limits import Limits
    from pnpvideo.web.models import Models
    from pnpvideo.web.runner import Runner

    store, models = JobStore(tmp_path / "jobs"), Models([str(folders["sd3"])], "cpu")
    visitor, values = Visitor(key="me", place="here"), {"prompt": ["a stone"], "steps": 2}
    job = store.add("translate", visitor, models.names[0], picture, values)
    runner = Runner(
        store, models, Limits(pixels=10_000, frames=4, waiting=2, prompts=3, prompt_length=50)
    )
    runner.submit(job)
    wait_until(lambda: store.all()[0].is_over, 30)
    runner.close()
    assert store.all()[0].state == "done", store.all()[0]
    how = ("--model", str(folders["sd3"]), "-o", str(tmp_path / "inside.png"), "--quiet")
    assert main(["visualize", str(picture), *how]) == 2
    assert "needs a model with a UNet, and this model has none" in capsys.readouterr().err


def test_options_of_the_family_and_of_the_folder(folders: Mapping[str, Path]) -> None:
    pipeline = PnPFlowPipeline.from_pretrained(folders["flux"], dtype=torch.float32)
    options = pipeline.model.defaults
    assert (options.steps, options.tau_a, options.guidance_scale) == (4, 0.5, 3.0)
    assert dict(pipeline.model.layers.blocks)["single_transformer_blocks.0"] == "vf"
    assert json.loads((folders["flux"] / "pnp.json").read_text())["options"]["steps"] == 4
