"""Every measure beside an independent direct computation, networks at their real sizes."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import benchmarks as made
import numpy as np
import pytest
import reference_networks as reference
import torch
import torchmetrics.functional.image.lpips as published
from models import TOKENIZER
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel
from transformers.initialization import no_init_weights

from pnpvideo.errors import InputError
from pnpvideo.evaluation import clip_metrics, columns, feature_metrics, flexit, pixel_metrics
from pnpvideo.evaluation.items import Item
from pnpvideo.evaluation.load_networks import MissingNetworkError, parse_places
from pnpvideo.evaluation.lpips import make_features
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.prepare import (
    CLIP,
    IMAGENET,
    normalised,
    resized_and_cropped,
    resized_bicubic,
)
from pnpvideo.evaluation.samples import ItemFrames

RNG = np.random.default_rng(5)
NEAR = {"abs": 1e-5, "rel": 1e-5}


def picture(width: int = 40, height: int = 32, seed: int = 0) -> np.ndarray:
    """One smooth frame, (1, height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))[None]


ONE, OTHER = picture(seed=1), picture(seed=2)
MASK = np.zeros((1, 32, 40), bool)
MASK[:, 8:20, 5:30] = True


# Pixels


def naive_squares(one: np.ndarray, other: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
        total += (a / 255 - b / 255) ** 2
    return total / one.size


def naive_absolute(one: np.ndarray, other: np.ndarray) -> float:
    pairs = zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
    return sum(abs(a / 255 - b / 255) for a, b in pairs) / one.size


def naive_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, with their Gaussian windows and a mirrored border."""
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    values = []
    for channel in range(3):
        x, y = (
            sliding_window_view(np.pad(a[0, ..., channel] / 255, 5, mode="reflect"), (11, 11))
            for a in (one, other)
        )
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                a, b = x[row, column], y[row, column]
                u, v = (weights * a).sum(), (weights * b).sum()
                va, vb = (weights * (a - u) ** 2).sum(), (weights * (b - v) ** 2).sum()
                both = (weights * (a - u) * (b - v)).sum()
                above = (2 * u * v + 1e-4) * (2 * both + 9e-4)
                values.append(above / ((u * u + v * v + 1e-4) * (va + vb + 9e-4)))
    return float(np.mean(values))


PIXEL: dict[str, tuple[pixel_metrics.Distance, Callable[[np.ndarray, np.ndarray], float]]] = {
    "mse": (pixel_metrics.mse, naive_squares),
    "l1": (pixel_metrics.l1, naive_absolute),
    "psnr": (pixel_metrics.psnr, lambda a, b: -10 * math.log10(naive_squares(a, b))),
    "ssim": (pixel_metrics.ssim, naive_ssim),
}


@pytest.mark.parametrize("name", PIXEL)
def test_distances_of_pixels(name: str) -> None:
    ours, theirs = PIXEL[name]
    assert ours(ONE, OTHER) == pytest.approx([theirs(ONE, OTHER)], **NEAR)
    # Of the unedited part: black where edited, over the whole frame.
    one, other = ONE.copy(), OTHER.copy()
    one[MASK], other[MASK] = 0, 0
    found = pixel_metrics.distance_on_unedited(ours, ONE, OTHER, MASK)
    assert found == pytest.approx([theirs(one, other)], **NEAR)
    everything, nothing = np.ones_like(MASK), np.zeros_like(MASK)
    assert np.isnan(pixel_metrics.distance_on_unedited(ours, ONE, OTHER, everything)).all()
    assert pixel_metrics.distance_on_unedited(ours, ONE, OTHER, nothing) == pytest.approx(
        ours(ONE, OTHER)
    )


def test_alike() -> None:
    assert pixel_metrics.psnr(ONE, ONE) == math.inf
    assert pixel_metrics.ssim(ONE, ONE) == pytest.approx(1)
    assert pixel_metrics.mse(ONE, ONE) == pixel_metrics.l1(ONE, ONE) == 0


# Features


def test_structure_distance() -> None:
    keys, others = RNG.normal(size=(2, 2, 7, 5))

    def cosines(each: np.ndarray) -> np.ndarray:
        return np.array(
            [[float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for b in each] for a in each]
        )

    expected = [((cosines(a) - cosines(b)) ** 2).mean() for a, b in zip(keys, others, strict=True)]
    found = feature_metrics.structure_distance(torch.tensor(keys), torch.tensor(others))
    assert found.numpy() == pytest.approx(expected, **NEAR)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def test_cosines() -> None:
    one, other, third = RNG.normal(size=(3, 4, 6))
    text, source_text = RNG.normal(size=(2, 1, 6))
    one[0] = -text[0]
    a, b, c, t, s = map(torch.tensor, (one, other, third, text, source_text))
    expected = [cosine(x, y) for x, y in zip(one, other, strict=True)]
    assert feature_metrics.similarity(a, b).numpy() == pytest.approx(expected, **NEAR)
    expected = [100 * max(cosine(x, text[0]), 0) for x in one]
    assert min(expected) == 0 < max(expected)
    assert feature_metrics.clip_score(a, t).numpy() == pytest.approx(expected, **NEAR)

    def unit(x: np.ndarray) -> np.ndarray:
        return np.asarray(x / math.sqrt(float(x @ x)))

    expected = [
        cosine(unit(y) - unit(x), unit(text[0]) - unit(source_text[0]))
        for x, y in zip(one, other, strict=True)
    ]
    assert feature_metrics.direction(a, b, s, t).numpy() == pytest.approx(expected, **NEAR)
    expected = np.mean([cosine(third[i], third[i + 1]) for i in range(3)])
    assert feature_metrics.frame_consistency(c) == pytest.approx(expected, **NEAR)
    assert math.isnan(feature_metrics.frame_consistency(c[:1]))


def test_sfid_and_accuracy() -> None:
    features = {str(i): torch.tensor(x) for i, x in enumerate(RNG.normal(size=(5, 3)))}
    labels = {"0": "cat", "1": "cat", "2": "dog", "3": "dog", "4": "newt"}
    means = {"mean": torch.zeros(3).double(), "cat": torch.ones(3).double()}
    means["dog"] = torch.full((3,), 2.0).double()
    array = np.stack([value.numpy() for value in features.values()])
    scores = flexit.fid_scores(features, labels, means)
    assert scores["sfid"] == pytest.approx((array.mean(0) ** 2).sum(), **NEAR)
    each = [((array[:2].mean(0) - 1) ** 2).sum(), ((array[2:4].mean(0) - 2) ** 2).sum()]
    assert scores["csfid"] == pytest.approx(np.mean(each), **NEAR)
    logits = torch.tensor([[9.0, 1, 2, 3], [0, 5, 1, 2]])
    assert feature_metrics.classify(logits, torch.tensor([1, 3])).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("text", "number"),
    [("a photo of a Tabby cat", 0), ("tiger cat", 1), ("two horse-carts", None), ("a zebra.", 2)],
)
def test_the_class_that_a_text_names(text: str, number: int | None) -> None:
    names = {0: "tabby, tabby cat", 1: "tiger cat", 2: "zebra", 3: "horse cart, horse-cart"}
    assert flexit.class_of(text, names) == number


# Networks at their real sizes


def random_weights(network: torch.nn.Module) -> reference.Weights:
    """Fill a network from one pool of numbers, which is faster than drawing each."""
    pool = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * 0.03
    with torch.no_grad():
        for number, (name, value) in enumerate(network.named_parameters()):
            times = -(-value.numel() // len(pool)) + 1
            numbers = pool.roll(1009 * number).repeat(times)[: value.numel()].view(value.shape)
            value.copy_(numbers + (1 if "norm" in name and name.endswith("weight") else 0))
    return dict(network.state_dict())


def networks_of(network: torch.nn.Module, *roles: str) -> Networks:
    """Networks that have one as if it were loaded."""
    networks = Networks({})
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    for role in roles:
        networks._loaded[role] = network.eval()
        networks._tokenizers[role] = tokenizer
    return networks


VITS = {"structure": (8, 768, 12), "dino": (16, 384, 6)}
"""DINO ViT-B/8 and ViT-S/16: side of a patch, width, heads."""


@pytest.mark.parametrize("role", VITS)
def test_dino(role: str) -> None:
    patch, width, heads = VITS[role]
    size = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
    with no_init_weights():
        network = ViTModel(ViTConfig(patch_size=patch, **size), add_pooling_layer=False)
    weights = random_weights(network)
    networks = networks_of(network, role)
    frame = picture(300, 300)
    parts = {"patch": patch, "heads": heads, "layers": 12}
    with torch.no_grad():
        if role == "dino":
            small = Image.fromarray(frame[0]).resize((256, 256), Image.Resampling.BICUBIC)
            pixels = to_pixels(np.asarray(small.crop((16, 16, 240, 240))), IMAGENET)
            expected = reference.vit(pixels, weights, **parts)[-1][:, 0]
            found = networks.dino(frame)
        else:
            large = torch.tensor(frame[0]).permute(2, 0, 1)[None] / 255
            small = functional.interpolate(large, (224, 224), mode="bilinear")
            mean, deviation = (torch.tensor(v)[None, :, None, None] for v in IMAGENET)
            expected = reference.vit_keys((small - mean) / deviation, weights, **parts)
            found = networks.keys(frame)
            assert found.shape == (1, 785, 768)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def to_pixels(array: np.ndarray, colours: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    scaled = (array.astype(np.float64) / 255 - colours[0]) / colours[1]
    return torch.from_numpy(scaled).permute(2, 0, 1)[None].float()


CLIPS = {"clip-large": (14, 1024, 24, 768), "clip": (32, 768, 12, 512)}
"""ViT-L/14 and ViT-B/32: side of a patch, width, layers; width of the text."""


@pytest.mark.parametrize("role", CLIPS)
def test_clip(role: str) -> None:
    patch, width, layers, text_width = CLIPS[role]
    heads, text_heads = width // 64, text_width // 64
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    config = CLIPConfig(
        projection_dim=text_width,
        text_config={
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_attention_heads": text_heads,
            "num_hidden_layers": 12,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "patch_size": patch,
        },
    )
    with no_init_weights():
        network = CLIPModel(config)
    weights = random_weights(network)
    networks = networks_of(network, role)
    frame = picture(260, 200)
    small = Image.fromarray(frame[0]).resize((291, 224), Image.Resampling.BICUBIC)
    pixels = to_pixels(np.asarray(small.crop((34, 0, 258, 224))), CLIP)
    text = "a photo of a red star"
    tokens = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = reference.clip_pictures(pixels, weights, patch=patch, heads=heads, layers=layers)
        words = reference.clip_text(tokens, weights, heads=text_heads, layers=12)
    found = networks.clip_pictures(role, frame)
    # Kept, not computed again.
    assert networks.clip_pictures(role, frame.copy()) is found
    score = feature_metrics.clip_score(found, networks.clip_text(role, text))
    assert feature_metrics.similarity(found, expected).numpy() == pytest.approx([1], **NEAR)
    wanted = 100 * max(0.0, cosine(expected[0].numpy(), words[0].numpy()))
    assert score.numpy() == pytest.approx([wanted], abs=1e-4)
    assert abs(float(found.norm() / expected.norm()) - 1) < 1e-5


@pytest.mark.parametrize("backbone", ["alex", "squeeze"])
def test_lpips(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = make_features(backbone)  # type: ignore[arg-type]
    weights = {f"features.{name}": value for name, value in features.state_dict().items()}
    save_file({**weights, "classifier.1.weight": torch.zeros(2)}, tmp_path / "net.safetensors")
    role = f"lpips-{backbone}"
    networks = Networks({role: str(tmp_path / "net.safetensors")})
    one, other = picture(96, 80, 1), picture(96, 80, 2)
    found = networks.lpips(role, one, other)
    # torchmetrics' own, which would load the same network with torchvision.
    monkeypatch.setattr(published, "_get_tv_model_features", lambda *_: features)
    theirs = published._LPIPS(net=backbone, use_dropout=True)
    a, b = (torch.from_numpy(x).movedim(-1, 1).float() / 255 for x in (one, other))
    expected = theirs(a, b, normalize=True).flatten()
    assert found.numpy() == pytest.approx(expected.detach().numpy(), **NEAR)
    assert float(found) > 1e-3
    assert float(networks.lpips(role, one, one)) == 0


def test_squeezenet_has_torchvisions_layers_and_names() -> None:
    """The first layers in plain operations on torchvision's names."""
    features = make_features("squeeze")
    w = {f"features.{name}": value for name, value in features.state_dict().items()}
    x = torch.from_numpy(picture(70, 50)).movedim(-1, 1).float() / 255
    y = functional.conv2d(x, w["features.0.weight"], w["features.0.bias"], stride=2).relu()
    y = functional.max_pool2d(y, 3, 2, ceil_mode=True)
    name = "features.3."
    y = functional.conv2d(y, w[f"{name}squeeze.weight"], w[f"{name}squeeze.bias"]).relu()
    small = functional.conv2d(y, w[f"{name}expand1x1.weight"], w[f"{name}expand1x1.bias"])
    large = functional.conv2d(
        y, w[f"{name}expand3x3.weight"], w[f"{name}expand3x3.bias"], padding=1
    )
    expected = torch.cat([small, large], 1).relu()
    torch.testing.assert_close(features[:4](x), expected)
    # As torchvision counts: SqueezeNet 1.1 and AlexNet without their classifiers.
    counts = [sum(p.numel() for p in make_features(n).parameters()) for n in ("squeeze", "alex")]  # type: ignore[arg-type]
    assert counts == [1_235_496 - 513_000, 61_100_840 - 58_631_144]


# Where networks come from


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made.save_networks(tmp_path_factory.mktemp("networks"))


def test_official_structure_mode_feeds_bytes(places: dict[str, str]) -> None:
    frames = picture(48, 32)
    right, official = (
        Networks(places, structure_mode=mode)
        for mode in ("right", "official")  # type: ignore[arg-type]
    )
    pixels = [n._structure_pixels(frames, 32) for n in (right, official)]
    mean, deviation = (torch.tensor(v)[None, :, None, None] for v in IMAGENET)
    raw = functional.interpolate(
        torch.from_numpy(frames).movedim(-1, 1).float(), (32, 48), mode="bilinear"
    )
    torch.testing.assert_close(pixels[1], (raw - mean) / deviation, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(pixels[0], (raw / 255 - mean) / deviation)
    assert not torch.allclose(right.keys(frames), official.keys(frames))
    assert official.name("structure").endswith("(official)")


def test_wide_pictures_go_into_the_structure_network_no_wider_than_theirs() -> None:
    pixels = Networks({})._structure_pixels(picture(1200, 300), 224)
    assert pixels.shape[-2:] == (120, 480)


def test_a_network_that_is_not_there_is_told(places: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"pickled")
    (tmp_path / "empty").mkdir()
    wrong = {"dino": str(tmp_path / "empty"), "lpips-alex": str(tmp_path / "weights.pth")}
    wrong |= {"lpips-squeeze": places["lpips-alex"], "clip": "none"}
    networks = Networks(wrong)
    for role in (*wrong, "features"):
        assert not networks.has(role)
        assert role in networks.missing[role]
    assert "give a .safetensors file" in networks.missing["lpips-alex"]
    with pytest.raises(MissingNetworkError, match="features"):
        networks.pooled(picture())
    assert Networks(places).has("clip")


@pytest.mark.parametrize("text", ["clip", "clip=", "klip=x", "=x"])
def test_a_network_is_given_by_its_role(text: str) -> None:
    assert parse_places(["clip=a=b"]) == {"clip": "a=b"}
    with pytest.raises(InputError, match="give ROLE=FOLDER or ROLE=HUB_ID"):
        parse_places([text])


def test_statistics_of_another_kind(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "s.safetensors")
    with pytest.raises(InputError, match="have no tensor 'mean'"):
        flexit.read_statistics(tmp_path / "s.safetensors")
    (tmp_path / "p.safetensors").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="cannot be read"):
        flexit.read_statistics(tmp_path / "p.safetensors")


def test_preparation() -> None:
    frame = picture(37, 50)
    assert resized_and_cropped(frame, 20, 16, Image.Resampling.BICUBIC).shape == (1, 16, 16, 3)
    assert resized_bicubic(frame, 37, 50) is frame
    assert resized_bicubic(frame, 20, 30).shape == (1, 30, 20, 3)
    assert normalised(frame, IMAGENET).shape == (1, 3, 50, 37)


# Clips


def test_what_is_in_sight() -> None:
    flow, back = RNG.normal(0, 1.2, (2, 1, 2, 9, 11))
    found = clip_metrics.visible_in_next(flow, back)
    for row in range(9):
        for column in range(11):
            u, v = flow[0, :, row, column]
            x, y = column + u, row + v
            left, top = math.floor(x), math.floor(y)
            inside = 0 <= x <= 10 and 0 <= y <= 8
            if not inside:
                assert not found[0, row, column]
                continue
            there = np.zeros(2)
            for i in (0, 1):
                for j in (0, 1):
                    weight = abs(1 - i - (x - left)) * abs(1 - j - (y - top))
                    there += weight * back[0, :, min(top + j, 8), min(left + i, 10)]
            gap = (u + there[0]) ** 2 + (v + there[1]) ** 2
            bound = 0.01 * (u**2 + v**2 + float(there @ there)) + 0.5
            assert bool(found[0, row, column]) == (gap < bound)


def test_warp_error_along_the_sources_motion() -> None:
    wide = picture(160, 96, 4)[0]
    source = np.stack([wide[:, 24 - 3 * i : 120 - 3 * i] for i in range(4)])
    flow, visible = clip_metrics.source_motion(source)
    assert visible.mean() > 0.7
    assert np.median(flow[:, 0][visible]) == pytest.approx(3, abs=0.3)
    assert np.median(flow[:, 1][visible]) == pytest.approx(0, abs=0.3)
    steady = clip_metrics.estimated_warp_error(source, source)
    flickering = source.astype(int) + np.array([0, 40, 0, 40])[:, None, None, None]
    error = clip_metrics.estimated_warp_error(flickering.clip(0, 255).astype(np.uint8), source)
    assert steady < 1e-3
    assert error > 10 * steady
    assert math.isnan(clip_metrics.estimated_warp_error(source[:1], source[:1]))


def test_saved_networks_are_what_is_loaded(places: dict[str, str]) -> None:
    networks = Networks(places)
    frame = picture(64, 64)
    weights = load_file(Path(places["dino"]) / "model.safetensors")
    small = Image.fromarray(frame[0]).resize((37, 37), Image.Resampling.BICUBIC)
    pixels = to_pixels(np.asarray(small.crop((2, 2, 34, 34))), IMAGENET)
    named = {name.replace("encoder.layer.", "layers."): value for name, value in weights.items()}
    if not any("q_proj" in name for name in named):
        words = {"attention.attention.query": "attention.q_proj"}
        words |= {"attention.attention.key": "attention.k_proj"}
        words |= {"attention.attention.value": "attention.v_proj"}
        words |= {"attention.output.dense": "attention.o_proj"}
        words |= {"intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"}
        for theirs, ours in words.items():
            named = {name.replace(theirs, ours): value for name, value in named.items()}
    expected = reference.vit(pixels, named, patch=8, heads=2, layers=2)[-1][:, 0]
    assert networks.dino(frame).numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    again = Networks(places)
    assert again.has("dino")
    assert again.identities["dino"] == networks.identities["dino"]


# A benchmark's columns


def test_columns_of_pie_bench(places: dict[str, str]) -> None:
    """Each column from its pictures by the benchmark's words, with the networks' own features."""
    networks = Networks(places)
    source, result = picture(64, 64, 1), picture(80, 80, 2)
    edited = np.zeros((1, 64, 64), bool)
    edited[:, 10:40, 20:50] = True
    item = Item(id="a", source=None, prompt="a red star", source_prompt="a star", result="a")
    sample = ItemFrames(item=item, source=source, result=result, mask=edited, reference=None)
    found = {column.name: column.measure(sample, networks) for column in columns.PIE_BENCH}
    shown = np.asarray(Image.fromarray(result[0]).resize((64, 64), Image.Resampling.BICUBIC))[None]
    bare, bare_source = (
        np.where(edited[..., None], 0, x).astype(np.uint8) for x in (shown, source)
    )
    inner = np.where(edited[..., None], shown, 0).astype(np.uint8)

    def clip(frames: np.ndarray) -> float:
        text = networks.clip_text("clip-large", "a red star")[0].numpy()
        return 100 * max(0.0, cosine(networks.clip_pictures("clip-large", frames)[0].numpy(), text))

    def similar(frames: np.ndarray) -> np.ndarray:
        keys = networks.keys(frames)[0].double().numpy()
        return np.array([[cosine(a, b) for b in keys] for a in keys])

    expected = {
        "structure_distance": ((similar(shown) - similar(source)) ** 2).mean(),
        "psnr_unedited": -10 * math.log10(naive_squares(bare, bare_source)),
        "lpips_unedited": float(networks.lpips("lpips-squeeze", bare, bare_source)),
        "mse_unedited": naive_squares(bare, bare_source),
        "ssim_unedited": naive_ssim(bare, bare_source),
        "clip_whole": clip(result),
        "clip_edited": clip(inner),
    }
    assert expected.keys() == found.keys() - {"pixel_shift", "pixel_shift_error"}
    for name, value in expected.items():
        assert found[name] == pytest.approx([value], **NEAR), name
    # A clip's frames have values of their own; an edited part that is empty has none.
    twice = replace(
        sample,
        source=np.concatenate([source, source]),
        result=np.concatenate([result, result]),
        mask=np.concatenate([edited, ~edited & edited]),
    )
    again = {column.name: column.measure(twice, networks) for column in columns.PIE_BENCH}
    assert again["clip_edited"] == pytest.approx([expected["clip_edited"], np.nan], nan_ok=True)
    assert again["mse_unedited"][1] == pytest.approx(naive_squares(shown, source), **NEAR)
