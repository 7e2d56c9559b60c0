"""ControlNets loaded and refused, what they follow drawn or read, and whole runs with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import SHORT, Cli, assert_refused, names, pixels, save_frames
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from models import controlnet_weights, random_controlnet, save_tiny_sdxl, tiny_unet
from PIL import Image
from safetensors.torch import save_file

from pnpvideo import InputError, PnPVideoPipeline, RunError
from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.plan import plan
from pnpvideo.batch.read_jobs import JobEntry
from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.inside.visualize import visualize
from pnpvideo.options.visualize import VisualizeSettings
from pnpvideo.pipelines.components import Components
from pnpvideo.pixels.control import check_control, draw_control

CHANNELS = (4, 8, 8)
"""Of the layers that see a picture, with four of its pixels to a side of a latent."""


@pytest.fixture(scope="module")
def pipeline(load: Callable[..., PnPVideoPipeline], tiny_model: Path) -> PnPVideoPipeline:
    return load(tiny_model, torch.float64)


@pytest.fixture(scope="module")
def controlnet(pipeline: PnPVideoPipeline) -> ControlNetModel:
    return random_controlnet(pipeline.unet, CHANNELS)


@pytest.fixture(scope="module")
def folder(controlnet: ControlNetModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("control") / "net"
    controlnet.save_pretrained(place)
    return place


@pytest.fixture
def controlled(pipeline: PnPVideoPipeline, controlnet: ControlNetModel) -> PnPVideoPipeline:
    made = PnPVideoPipeline.from_pipe(pipeline, controlnet=controlnet, dtype=torch.float64)
    made.set_progress_bar_config(disable=True)
    return made


# Pictures


def test_soft_edges_are_the_slope_of_a_smoothed_step() -> None:
    across = np.arange(1024) - 511.5
    for step in (40, 100, 250):
        frame = np.where(across[None, :, None] > 0, 5 + step, 5).astype(np.uint8)
        frame = np.broadcast_to(frame, (512, 1024, 3))
        row = draw_control(frame[None], "softedge")[0, 256, :, 1].astype(float)
        wanted = np.minimum(255, 255 * step / 128 * np.exp(-(across**2) / (2 * 2.0**2)))
        np.testing.assert_allclose(row, wanted, atol=9)
        assert not row[:480].any()


def test_line_art_is_what_is_darker_than_its_surroundings() -> None:
    frame = np.full((512, 512, 3), 240, np.uint8)
    frame[:, 100:103] = 40
    frame[:, 300:303] = (240, 230, 255)  # In no channel much darker.
    drawn = draw_control(frame[None], "lineart")[0]
    assert (drawn[:, 100:103] == 255).all()
    drawn[:, 100:103] = 0
    assert drawn.max() < 30


def test_canny_draws_thin_lines_along_edges() -> None:
    frame = np.full((64, 96, 3), 20, np.uint8)
    frame[16:48, 24:72] = 220
    drawn = draw_control(frame[None], "canny")[0, :, :, 0]
    assert set(np.unique(drawn)) == {0, 255}
    rows, columns = np.nonzero(drawn)
    assert {*columns[(rows > 20) & (rows < 44)]} <= {23, 24, 71, 72}
    assert 100 < len(rows) < 170
    assert not draw_control(np.full((1, 8, 8, 3), 99, np.uint8), "canny").any()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 32, 48), "has 4 frames and the source 5 frames; give one picture for each frame"),
        ((1, 32, 48), "has 1 frame and the source 5 frames"),
        ((5, 32, 40), "has 40x32 pixels and the source 48x32"),
    ],
)
def test_pictures_that_do_not_fit(shape: tuple[int, int, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_control(clip_of_frames(np.zeros((*shape, 3), np.uint8)), (48, 32), 5)


@pytest.mark.parametrize("size", [(48, 32), (96, 64), (24, 16), (31, 21), (1500, 1000)])
def test_pictures_of_another_size_fit(size: tuple[int, int]) -> None:
    check_control(clip_of_frames(np.zeros((1, size[1], size[0], 3), np.uint8)), (48, 32), 1)


# Loading


@pytest.mark.parametrize("form", ["folder", "fp16", "file", "file with config", "original", "hint"])
def test_all_forms_have_the_same_weights(
    folder: Path, tiny_model: Path, tmp_path: Path, form: str, controlnet: ControlNetModel
) -> None:
    place, weights = tmp_path / "net.safetensors", controlnet.state_dict()
    if form == "folder":
        place = folder
    elif form == "fp16":
        place = tmp_path / "half"
        controlnet.save_pretrained(place, variant="fp16")
    elif form in ("file", "file with config"):
        save_file(weights, place)
        if form == "file with config":
            shutil.copy(folder / "config.json", tmp_path)
    else:
        prefix = "control_model." if form == "original" else ""
        save_file({prefix + n: t for n, t in controlnet_weights(controlnet).items()}, place)
    loaded = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float64, controlnet=place)
    assert loaded.controlnet is not None
    assert loaded.controlnet.dtype == torch.float64
    own = loaded.controlnet.state_dict()
    assert own.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(own[name], tensor), name


def test_sdxl_has_its_own(tmp_path: Path) -> None:
    model = save_tiny_sdxl(tmp_path / "xl")
    plain = PnPVideoPipeline.from_pretrained(model, dtype=torch.float32)
    random_controlnet(plain.unet, CHANNELS).save_pretrained(tmp_path / "net")
    made = PnPVideoPipeline.from_pretrained(model, dtype=torch.float32, controlnet=tmp_path / "net")
    run = {"num_inference_steps": 2, "output_type": "latent"}
    for each in (plain, made):
        each.set_progress_bar_config(disable=True)
    off = made("a stone", smooth_frames(1, 32, 32), control="canny", control_scale=0, **run)
    torch.testing.assert_close(
        off.frames, plain("a stone", smooth_frames(1, 32, 32), **run).frames, rtol=1e-3, atol=1e-3
    )


def save(folder: Path, kind: str) -> Any:
    """A file or folder that is not a ControlNet for the tiny model."""
    folder.mkdir()
    file, unet = folder / "x.safetensors", tiny_unet().double()
    if kind in ("wide", "wide file"):
        net = random_controlnet(tiny_unet(cross_attention_dim=24).double(), CHANNELS)
        if kind == "wide file":
            save_file(net.state_dict(), file)
            return file
        net.save_pretrained(folder)
    elif kind == "narrow":
        deeper = tiny_unet(block_out_channels=(8, 16, 16, 24)).double()
        random_controlnet(deeper, CHANNELS).save_pretrained(folder)
    elif kind == "large pictures":
        random_controlnet(unet, (4, 4, 8, 8)).save_pretrained(folder)
    elif kind in ("shuffle", "grey", "strange config"):
        random_controlnet(unet, CHANNELS).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config |= {"shuffle": {"global_pool_conditions": True}, "grey": {}}.get(kind, {})
        (folder / "config.json").write_text("{" if kind != "shuffle" else json.dumps(config))
    elif kind == "unet":
        unet.save_pretrained(folder)
    elif kind == "lora":
        save_file({"lora_unet_mid_block.lora_down.weight": torch.zeros(1)}, file)
        return file
    elif kind == "pickle":
        torch.save({}, folder / "x.pth")
        return folder / "x.pth"
    elif kind == "lacks":
        weights = random_controlnet(unet, CHANNELS).state_dict()
        del weights["mid_block.resnets.0.conv1.weight"]
        save_file(weights, file)
        return file
    elif kind == "control lora":
        save_file({"lora_controlnet": torch.zeros(1)}, file)
        return file
    elif kind == "bin":
        random_controlnet(unet, CHANNELS).save_pretrained(folder, safe_serialization=False)
    elif kind == "text":
        file.write_text("no model")
        return file
    elif kind == "file alone":
        save_file({"a": torch.zeros(1)}, file)
    return folder


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wide", "needs text embeddings of 24 channels, and the model's have 16; give one for"),
        ("wide file", r"attn2.to_k.weight has the shape \(8, 24\) and not \(8, 16\)"),
        ("narrow", r"its channels of its levels are \[8, 16, 16, 24\]"),
        ("large pictures", "makes pictures 8 times smaller, and the model's autoencoder 4 times"),
        ("shuffle", "follows the colours of a picture"),
        ("strange config", "config.json is not JSON"),
        ("unet", "is not a ControlNet: it holds a UNet2DConditionModel"),
        ("lora", "is not a ControlNet but a LoRA"),
        ("control lora", "is a Control-LoRA"),
        ("pickle", "is a pickle, which can hold code"),
        ("lacks", "lacks 1 weights, such as mid_block.resnets.0.conv1.weight"),
        ("bin", "cannot be loaded: "),
        ("text", "is not a safetensors file"),
        ("file alone", "has no config.json; to load a single file, give its path"),
        ("empty", "is not a ControlNet: it has no config.json"),
    ],
)
def test_what_is_no_controlnet_for_a_model(
    kind: str, words: str, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        PnPVideoPipeline.from_pretrained(
            tiny_model, dtype=torch.float64, controlnet=save(tmp_path / "given", kind)
        )
    assert "\n" not in str(refused.value)


def test_whole_models_and_names(tiny_model: Path, pipeline: PnPVideoPipeline) -> None:
    for given, words in (
        (tiny_model, "is a whole model and not a ControlNet; give it as the model"),
        ("no such thing", "there is no ControlNet 'no such thing'"),
    ):
        with pytest.raises(InputError, match=words):
            # The model is not looked for yet.
            PnPVideoPipeline.from_pretrained("no/model", controlnet=given)
    with pytest.raises(RunError, match="the hub cannot be reached for the ControlNet a/b"):
        PnPVideoPipeline.from_pretrained(tiny_model, controlnet="a/b", local_files_only=True)
    with pytest.raises(InputError, match="a UNet2DConditionModel is not a single ControlNet"):
        Components(**{**pipeline.components, "controlnet": pipeline.unet})


# Python


def latents_of(pipeline: PnPVideoPipeline, **more: Any) -> torch.Tensor:
    settings = {"num_inference_steps": 3, "width": 48, "height": 32, "output_type": "latent"}
    return pipeline("a stone", video=smooth_frames(3, 48, 32), **settings | more).frames


def test_scale_0_is_no_controlnet(pipeline: PnPVideoPipeline, controlled: PnPVideoPipeline) -> None:
    plain = latents_of(pipeline)
    for off in ({"control_scale": 0.0}, {"control_end": 0.0}):
        found = latents_of(controlled, control="canny", **off)
        assert ((found - plain).norm() / plain.norm()).item() < 1e-8
    on = latents_of(controlled, control="canny")
    assert ((on - plain).norm() / plain.norm()).item() > 0.01


def test_pictures_given_are_as_those_drawn(controlled: PnPVideoPipeline) -> None:
    drawn = draw_control(smooth_frames(3, 48, 32), "canny")
    assert torch.equal(
        latents_of(controlled, control="canny", controlnet_conditioning_scale=0.7),
        latents_of(controlled, control_image=drawn, control_scale=0.7),
    )
    own = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    made = latents_of(controlled, control_image=own, control_guidance_end=0.4)
    again = latents_of(controlled, control_image=[*map(Image.fromarray, own)], control_end=0.4)
    assert torch.equal(made, again)
    assert not torch.allclose(made, latents_of(controlled, control_image=own))
    turned = latents_of(controlled, control_image=own[::-1], control_end=0.4)
    assert torch.equal(turned[:, 1], made[:, 1])
    assert not torch.allclose(turned[:, 0], made[:, 0])


def test_an_earlier_trajectory_serves_with_the_same_pictures(
    controlled: PnPVideoPipeline,
) -> None:
    drawn = draw_control(smooth_frames(3, 48, 32), "canny")
    how = {"num_inference_steps": 3, "output_type": "latent", "control_image": drawn}
    first = controlled("a stone", smooth_frames(3, 48, 32), width=48, height=32, **how)
    again = controlled("a stone", trajectory=first.trajectory, **how)
    torch.testing.assert_close(again.frames, first.frames, rtol=1e-6, atol=1e-6)


def test_from_diffusers_pipeline(
    pipeline: PnPVideoPipeline, controlled: PnPVideoPipeline, controlnet: ControlNetModel
) -> None:
    parts = {n: p for n, p in pipeline.components.items() if n != "controlnet"}
    used = ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "safety_checker")
    stock = StableDiffusionControlNetPipeline(
        **{name: parts[name] for name in used},
        feature_extractor=None,
        controlnet=controlnet,
        requires_safety_checker=False,
    )
    made = PnPVideoPipeline.from_pipe(stock, dtype=torch.float64)
    made.set_progress_bar_config(disable=True)
    assert made.controlnet is controlnet
    assert torch.equal(latents_of(made, control="canny"), latents_of(controlled, control="canny"))


def test_what_python_may_not_ask(pipeline: PnPVideoPipeline, controlled: PnPVideoPipeline) -> None:
    picture = np.zeros((3, 32, 48, 3), np.uint8)
    for asked, more, words in (
        (pipeline, {"control": "canny"}, "there is no ControlNet that follows"),
        (pipeline, {"control_image": picture}, "there is no ControlNet that follows"),
        (controlled, {}, "has a ControlNet, which needs something to follow"),
        (controlled, {"control": "depth"}, "control is 'depth'; give canny, softedge or lineart"),
        (controlled, {"control": "canny", "control_scale": 3.0}, "a number from 0 to 2"),
        (controlled, {"control": "canny", "control_image": picture}, "not both"),
        (controlled, {"control_image": picture[:2]}, "has 2 frames and the source 3 frames"),
        (controlled, {"control_image": picture[:, :9]}, "has 48x9 pixels and the source 48x32"),
    ):
        with pytest.raises(InputError, match=words):
            latents_of(asked, **more)
    with pytest.raises(InputError, match="cannot follow a source"):
        controlled("a stone", guidance_prompt="a star", control="canny")


# The command line


def test_a_run_follows_pictures_of_its_range(cli: Cli, folder: Path, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 6)
    (tmp_path / "edges").mkdir()
    for number, one in enumerate(draw_control(smooth_frames(6, 48, 32), "canny")):
        Image.fromarray(one).save(tmp_path / "edges" / f"{number}.png")
    part = ("--start", "1", "--stride", "2", "--frames", "2", "--size", "48x32")
    run = ("in", *SHORT, *part, "--controlnet", str(folder))
    assert cli(*run, "--control-image", "edges", "-o", "read")[0] == 0
    assert cli(*run, "--control", "canny", "-o", "drawn")[0] == 0
    assert cli("in", *SHORT, *part, "-o", "plain")[0] == 0
    read, drawn, plain = (
        pixels(tmp_path / name / "000002.png") for name in ("read", "drawn", "plain")
    )
    np.testing.assert_array_equal(read, drawn)
    assert np.abs(read.astype(int) - plain).mean() > 1
    # Its settings repeat it.
    assert cli("--config", "read.yaml", "-o", "again")[0] == 0
    np.testing.assert_array_equal(pixels(tmp_path / "again" / "000002.png"), read)


def test_a_job_with_another_control_inverts_anew(cli: Cli, folder: Path, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 1)
    run = ("in", *SHORT, "--size", "48x32", "--controlnet", str(folder))
    edges = Image.fromarray(draw_control(smooth_frames(1, 48, 32), "lineart")[0])
    edges.save(tmp_path / "lines.png")
    for number, more in enumerate(
        (
            ("--control", "canny"),
            ("--control", "canny", "--control-scale", "0.5"),
            ("--control-image", "lines.png"),
        )
    ):
        assert cli(*run, *more, "--job", "job", "-o", f"job{number}.png")[0] == 0
        assert cli(*run, *more, "-o", f"own{number}.png", "--check-inversion")[0] == 0
        np.testing.assert_array_equal(
            pixels(tmp_path / f"job{number}.png"), pixels(tmp_path / f"own{number}.png")
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--control", "canny"), "control is for a ControlNet; give one with controlnet"),
        (("--control-image", "good.png"), "control_image is for a ControlNet"),
        (("--controlnet", "no/such"), "needs something to follow; give control or control_image"),
        (("--controlnet", "no such", "--control", "canny"), "there is no ControlNet 'no such'"),
        (("--controlnet", "x/y", "--control", "depth"), "give canny, softedge or lineart"),
        (("--controlnet", "x/y", "--control", "canny", "--control-scale", "2.5"), "from 0 to 2"),
        (("--controlnet", "x/y", "--control", "canny", "--control-end", "-1"), "from 0 to 1"),
        (("--controlnet", "x/y", "--control", "canny", "--control-image", "a.png"), "not both"),
        (("--controlnet", "x/y", "--control-image", "none.png"), "none.png does not exist"),
        (("--controlnet", "x/y", "--control-image", "text.png"), "text.png is not"),
        (("--controlnet", "x/y", "--control-image", "tall.png"), "has 32x48 pixels and the source"),
        (("--controlnet", "x/y", "--control-image", "two"), "has 2 frames and the source 1 frame"),
        (("--controlnet", "x/y", "--control-image", "https://a.b/c.png"), "is an address"),
        (
            ("--controlnet", "x/y", "--control-image", "good.png", "--overwrite", "-o", "good.png"),
            "would write over the control image",
        ),
    ],
)
def test_bad_control(
    cli: Cli, picture: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "good.png")
    Image.new("RGB", (32, 48)).save(tmp_path / "tall.png")
    save_frames(tmp_path / "two", 2)
    (tmp_path / "text.png").write_text("no picture")
    before = names(tmp_path)
    result = cli("source0.png", *SHORT, "-o", "out.png", *arguments, model="no/such")
    assert_refused(result, 2, words)
    assert names(tmp_path) == before


def test_a_source_that_the_model_makes_follows_none(cli: Cli, folder: Path) -> None:
    result = cli(
        "--guidance-prompt", "a star", *SHORT, "--controlnet", str(folder), "--control", "canny"
    )  # fmt: skip
    assert_refused(result, 2, "a ControlNet cannot follow a source that the model makes")


@pytest.mark.parametrize("show", ["features", "prediction", "correspondence", "words"])
def test_what_is_shown_inside_follows_it_too(
    show: str, controlled: PnPVideoPipeline, tmp_path: Path
) -> None:
    save_frames(tmp_path / "in", 2)
    looks = {"source": str(tmp_path / "in"), "prompt": "a stone", "steps": 3, "size": "48x32"}
    made = {}
    for scale in (0.0, 2.0):
        how = {"control": "canny", "control_scale": scale, "output": str(tmp_path / f"{scale}.png")}
        settings = VisualizeSettings.of(looks | how | {"show": show, "batch_size": 1})
        made[scale] = pixels(visualize(settings, controlled, quiet=True))
    assert made[0.0].shape == made[2.0].shape
    assert (made[0.0] != made[2.0]).any()


def test_jobs_share_an_inversion_where_they_follow_the_same(tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 1)
    save_frames(tmp_path / "edges", 1)
    common = {"source": str(tmp_path / "in"), "controlnet": "a/b", "steps": 2}
    follows: list[dict[str, object]] = [
        {"prompt": "a", "control": "canny"},
        {"prompt": "b", "control": "canny"},
        {"prompt": "c", "control": "softedge"},
        {"prompt": "d", "control": "canny", "control_scale": 0.5},
        {"prompt": "e", "control_image": str(tmp_path / "edges")},
    ]
    batch = BatchFolder(tmp_path)
    entries = [JobEntry(place=str(n), values=common | one) for n, one in enumerate(follows)]
    first, *others = [job.inversion for job in plan(entries, batch)]
    assert [one == first for one in others] == [True, False, False, False]
    for wrong, words in (
        ({"controlnet": None}, "0: control is for a ControlNet"),
        ({"control": None, "control_image": str(tmp_path / "none")}, "0: .*none"),
    ):
        with pytest.raises(InputError, match=words):
            plan([JobEntry(place="0", values=common | follows[0] | wrong)], batch)
