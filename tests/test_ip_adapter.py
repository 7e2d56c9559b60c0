"""An IP-Adapter beside the method: parity with diffusers' own pipeline, and what is refused."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import SHORT, Cli, assert_refused, names, pixels, save_frames
from diffusers import StableDiffusionPipeline
from models import random_controlnet, save_tiny_ip_adapter, save_tiny_sdxl, tiny_unet
from PIL import Image
from safetensors.torch import load_file, save_file

from pnpvideo import InputError, PnPVideoPipeline, Storage
from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.plan import plan
from pnpvideo.batch.read_jobs import JobEntry
from pnpvideo.models.stable_diffusion.unet import UNet

RUN = {"num_inference_steps": 2, "width": 48, "height": 32, "output_type": "latent"}


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = PnPVideoPipeline.from_pretrained(tiny_model)
    return save_tiny_ip_adapter(plain.unet, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> PnPVideoPipeline:
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def adapted(plain: PnPVideoPipeline, adapter: Path) -> PnPVideoPipeline:
    pipeline = deepcopy(plain)
    pipeline.load_ip_adapter(adapter)
    return pipeline


def picture_of(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8))


def result_of(pipeline: PnPVideoPipeline, seed: int | None = 0, **more: Any) -> Any:
    picture = {} if seed is None else {"ip_adapter_image": picture_of(seed)}
    frames = smooth_frames(2, 48, 32)
    return pipeline("a stone", video=frames, **RUN, **picture, **{"guidance_scale": 3.0, **more})


@pytest.mark.parametrize(("plus", "scale"), [(False, 1.0), (True, 0.4)])
def test_without_injection_it_is_diffusers_own(
    plain: PnPVideoPipeline, tmp_path: Path, plus: bool, scale: float
) -> None:
    adapter = save_tiny_ip_adapter(plain.unet, tmp_path, plus=plus)
    adapted = deepcopy(plain)
    adapted.load_ip_adapter(adapter)
    adapted.set_ip_adapter_scale(scale)
    ours = result_of(adapted, tau_f=0.0, tau_a=0.0, storage=Storage(precision="full"))
    stock = StableDiffusionPipeline.from_pipe(deepcopy(plain), dtype=torch.float64)
    stock.load_ip_adapter(str(adapter.parent), subfolder="", weight_name=adapter.name)
    stock.set_ip_adapter_scale(scale)
    stock.set_progress_bar_config(disable=True)
    # Whose square roots would be taken in float32.
    for table in ("alphas_cumprod", "final_alpha_cumprod"):
        setattr(stock.scheduler, table, getattr(stock.scheduler, table).double())
    for frame in range(2):
        theirs = stock(
            "a stone",
            latents=ours.trajectory.noise[frame : frame + 1],
            ip_adapter_image=picture_of(0),
            guidance_scale=3.0,
            **RUN,
        ).images
        assert ((ours.frames[0, frame] - theirs[0]).norm() / theirs.norm()).item() < 1e-8


def test_the_source_sees_no_picture_and_at_scale_0_results_see_none(
    plain: PnPVideoPipeline, adapted: PnPVideoPipeline
) -> None:
    one, other = result_of(adapted, 0), result_of(adapted, 1)
    assert torch.equal(one.trajectory.noise, other.trajectory.noise)
    assert ((one.frames - other.frames).norm() / one.frames.norm()).item() > 0.01
    adapted.set_ip_adapter_scale(0.0)
    off, without = result_of(adapted, 0).frames, result_of(plain, None).frames
    assert ((off - without).norm() / without.norm()).item() < 1e-8


def test_what_is_installed_lives_beside_it(adapted: PnPVideoPipeline) -> None:
    before = {name: type(one) for name, one in adapted.unet.attn_processors.items()}
    shared = {"attention_sharing": "propagate", "keyframe_every": 2}
    by_one = result_of(adapted, batch_size=1, **shared).frames
    together = result_of(adapted, batch_size=2, **shared).frames
    assert ((by_one - together).norm() / together.norm()).item() < 1e-8
    assert {name: type(one) for name, one in adapted.unet.attn_processors.items()} == before
    # A text's words are found as without it.
    maps: list[torch.Tensor] = []
    network = UNet(adapted.unet, 4)
    tokens = range(adapted.encode_texts(["a"]).hidden.shape[1])
    with network.cross_attentions[0].watched(tokens, maps.append):
        result_of(adapted, 0, tau_f=0.0, tau_a=0.0)
    torch.testing.assert_close(maps[0], torch.ones_like(maps[0]))


def test_loaded_as_in_diffusers_and_unloaded(
    plain: PnPVideoPipeline, adapted: PnPVideoPipeline, adapter: Path
) -> None:
    again = deepcopy(plain)
    again.load_ip_adapter(str(adapter.parent), subfolder="", weight_name=adapter.name)
    made = PnPVideoPipeline.from_pipe(again, dtype=torch.float64)
    made.set_progress_bar_config(disable=True)
    assert torch.equal(result_of(made).frames, result_of(adapted).frames)
    again.unload_ip_adapter()
    assert torch.equal(result_of(again, None).frames, result_of(plain, None).frames)


def test_sdxl_has_its_own_and_a_controlnet_may_stand_beside_it(tmp_path: Path) -> None:
    model = save_tiny_sdxl(tmp_path / "xl")
    alone = PnPVideoPipeline.from_pretrained(model, dtype=torch.float64)
    random_controlnet(alone.unet, (4, 8, 8)).save_pretrained(tmp_path / "net")
    both = PnPVideoPipeline.from_pretrained(model, dtype=torch.float64, controlnet=tmp_path / "net")
    both.load_ip_adapter(save_tiny_ip_adapter(both.unet, tmp_path))
    for pipeline in (alone, both):
        pipeline.set_progress_bar_config(disable=True)
    plain = result_of(alone, None).frames

    def change(picture: float, control: float) -> float:
        both.set_ip_adapter_scale(picture)
        made = result_of(both, control="canny", control_scale=control).frames
        return float((made - plain).norm() / plain.norm())

    assert change(0.0, 0.0) < 1e-8
    assert change(1.0, 0.0) > 0.001
    assert change(0.0, 1.0) > 0.001


def test_jobs_with_other_pictures_share_an_inversion(adapter: Path, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 1)
    pictures = []
    for seed in range(2):
        pictures.append(str(tmp_path / f"{seed}.png"))
        picture_of(seed).save(pictures[-1])
    common = {"source": str(tmp_path / "in"), "ip_adapter": str(adapter)}
    changes: list[dict[str, object]] = [
        {"prompt": "a", "ip_adapter_image": pictures[0]},
        {"prompt": "b", "ip_adapter_image": pictures[1]},
        {"prompt": "c", "ip_adapter_image": pictures[1], "ip_adapter_scale": 0.5},
    ]
    entries = [JobEntry(place="", values=common | one) for one in changes]
    first, second, third = plan(entries, BatchFolder(tmp_path))
    assert (first.inversion, first.model) == (second.inversion, second.model)
    assert first.inversion != third.inversion
    assert first.model != third.model


def save(folder: Path, adapter: Path, kind: str) -> Path:
    """A file that is not an IP-Adapter for the tiny model."""
    weights, file = load_file(adapter), folder / "other.safetensors"
    if kind == "wide":
        (folder / "wide").mkdir()
        return save_tiny_ip_adapter(tiny_unet(cross_attention_dim=24), folder / "wide")
    if kind == "layers":
        weights = {k: v for k, v in weights.items() if not k.startswith("ip_adapter.3.")}
    elif kind == "lora":
        weights = {"lora_unet_mid_block.lora_down.weight": torch.zeros(1)}
    elif kind == "faces":
        del weights["image_proj.proj.weight"]
    elif kind == "encoder":
        weights["image_proj.proj.weight"] = torch.zeros(64, 20)
    elif kind == "text":
        file.write_text("no weights")
        return file
    elif kind == "pickle":
        torch.save(weights, folder / "adapter.bin")
        return folder / "adapter.bin"
    save_file(weights, file)
    return file


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wide", "needs text embeddings of 24 channels, and the model's have 16"),
        ("layers", "is for 9 cross-attention layers, and the UNet has 10"),
        ("lora", "is not an IP-Adapter: it has no ip_adapter.1.to_k_ip.weight"),
        ("faces", "is an IP-Adapter for faces"),
        ("encoder", "image embeddings of 20 channels, and the image encoder's have 12"),
        ("text", "is not an IP-Adapter: "),
        ("pickle", "give a .safetensors file"),
    ],
)
def test_what_is_no_adapter_for_a_model(
    plain: PnPVideoPipeline, adapter: Path, tmp_path: Path, kind: str, words: str
) -> None:
    pipeline = deepcopy(plain)
    before = pipeline.unet.attn_processors.keys()
    with pytest.raises(InputError, match=words):
        pipeline.load_ip_adapter(
            save(tmp_path, adapter, kind), image_encoder_folder=adapter.parent / "image_encoder"
        )
    assert pipeline.unet.attn_processors.keys() == before
    assert not pipeline.model.reads_pictures


def test_what_python_may_not_ask(plain: PnPVideoPipeline, adapted: PnPVideoPipeline) -> None:
    for pipeline, seed, words in (
        (plain, 0, "there is no IP-Adapter that reads"),
        (adapted, None, "needs a picture; give one"),
    ):
        with pytest.raises(InputError, match=words):
            result_of(pipeline, seed)
    with pytest.raises(InputError, match="has 2 frames; give one picture"):
        adapted("a stone", smooth_frames(1, 48, 32), ip_adapter_image=smooth_frames(2, 24, 24))


def test_the_command_line(cli: Cli, adapter: Path, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 1)
    picture_of(0).save(tmp_path / "a.png")
    picture_of(1).save(tmp_path / "b.png")
    run = ("in", *SHORT, "--size", "48x32", "--ip-adapter", str(adapter))
    for name in ("a", "b"):
        with_image = (*run, "--ip-adapter-image", f"{name}.png")
        assert cli(*with_image, "-o", f"own-{name}.png")[0] == 0
        assert cli(*with_image, "--job", "job", "-o", f"job-{name}.png")[0] == 0
        np.testing.assert_array_equal(
            pixels(tmp_path / f"own-{name}.png"), pixels(tmp_path / f"job-{name}.png")
        )
    assert (pixels(tmp_path / "own-a.png") != pixels(tmp_path / "own-b.png")).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ip-adapter", "good"), "needs a picture; give one with ip_adapter_image"),
        (("--ip-adapter-image", "a.png"), "is for an IP-Adapter; give one with ip_adapter"),
        (("--image-encoder", "x"), "image_encoder is for an IP-Adapter"),
        (
            ("--ip-adapter", "no.safetensors", "--ip-adapter-image", "a.png"),
            "no IP-Adapter no.safe",
        ),
        (("--ip-adapter", "good", "--ip-adapter-image", "no.png"), "no.png does not exist"),
        (("--ip-adapter", "good", "--ip-adapter-image", "in"), "has 2 frames; give one picture"),
        (
            ("--ip-adapter", "good", "--ip-adapter-image", "a.png", "--image-encoder", "in"),
            "there is no image encoder in in; give a folder of a CLIP vision model",
        ),
        (
            ("--ip-adapter", "good", "--ip-adapter-image", "a.png", "--ip-adapter-scale", "3"),
            "from 0 to 2",
        ),
    ],
)
def test_bad_adapters(
    cli: Cli, adapter: Path, picture: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    save_frames(tmp_path / "in", 2)
    picture_of(0).save(tmp_path / "a.png")
    before = names(tmp_path)
    given = [str(adapter) if one == "good" else one for one in arguments]
    result = cli("source0.png", *SHORT, "-o", "out.png", *given, model="no/such")
    assert_refused(result, 2, words)
    assert names(tmp_path) == before
