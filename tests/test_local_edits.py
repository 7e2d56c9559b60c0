"""Edits of a part: outside it the result is the source, and masks move with what they are on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import SHORT, Cli, assert_refused, names, pixels, save_frames
from PIL import Image

from pnpvideo import InputError, PnPVideoPipeline
from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.models.model import words_of
from pnpvideo.pixels.carry_mask import carry_mask
from pnpvideo.pixels.mask import check_mask, composite, feathered, mask_frames, weights_of
from pnpvideo.sampling.find_named import attention_maps, named_maps
from pnpvideo.sampling.keep_outside import keep_outside, latent_weights
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit, seeded
from tools.train.artwork import Artwork
from tools.train.layout import Camera, Object, Scene
from tools.train.motion import frame_times
from tools.train.scenes import object_masks, render

BOX = (slice(4, 24), slice(12, 36))


def save_mask(path: Path, *box: slice, size: tuple[int, int] = (48, 32)) -> Path:
    mask = np.zeros(size[::-1], np.uint8)
    for place in [box] if box else []:
        mask[place] = 255
    Image.fromarray(mask).save(path)
    return path


def save_alpha(path: Path, grey: int, *, opaque: bool = True) -> Path:
    """A picture of one colour that is opaque in the box alone, or nowhere."""
    mask = np.full((32, 48, 4), grey, np.uint8)
    mask[..., 3] = 0
    if opaque:
        mask[(*BOX, 3)] = 255
    Image.fromarray(mask).save(path)
    return path


# Numbers


def test_weights_make_lossy_black_and_white_clear() -> None:
    greys = np.array([0, 7, 32, 100, 127, 128, 223, 240, 255], np.uint8)
    frames = np.repeat(greys[None, None, :, None], 3, axis=3)
    wanted = [round(min(max((int(g) - 32) * 255 / 191, 0), 255)) for g in greys]
    assert weights_of(frames)[0, 0].tolist() == wanted


def test_a_feather_grows_inward_from_the_edge() -> None:
    weights = np.zeros((1, 9, 15), np.uint8)
    weights[0, :, 5:] = 255
    for feather in (0, 1, 3):
        row = feathered(weights, feather)[0, 4]
        wanted = [round(255 * min(max(x - 4, 0) / (feather + 1), 1)) for x in range(15)]
        assert np.abs(row.astype(int) - wanted).max() <= 1
        assert not row[:5].any()
    full = np.full((1, 4, 4), 255, np.uint8)
    np.testing.assert_array_equal(feathered(full, 3), full)


def test_composite_and_latents_against_naive_ones() -> None:
    rng = np.random.default_rng(0)
    frames, below = rng.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    weights = rng.integers(0, 256, (3, 8, 8), np.uint8)
    weights[:, :2], weights[:, 6:] = 0, 255
    mixed = np.concatenate(
        list(composite([frames[:2], frames[2:]], [below], [weights[:1], weights[1:]]))
    )
    share = weights[..., None] / 255
    np.testing.assert_allclose(mixed, share * frames + (1 - share) * below, atol=0.51)
    np.testing.assert_array_equal(mixed[:, :2], below[:, :2])
    np.testing.assert_array_equal(mixed[:, 6:], frames[:, 6:])

    small = latent_weights([weights[:2], weights[2:]], 4)
    naive = [
        [
            [weights[f, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].max() / 255 for x in range(2)]
            for y in range(2)
        ]
        for f in range(3)
    ]
    torch.testing.assert_close(small[:, 0], torch.tensor(naive, dtype=torch.float32))
    x, z = torch.randn(2, 3, 5, 2, 2), torch.randn(3, 5, 2, 2)
    m = small[None]
    torch.testing.assert_close(keep_outside(x, z.half(), small), m * x + (1 - m) * z.half().float())


@pytest.mark.parametrize(
    ("shape", "value", "words"),
    [
        ((1, 32, 40), 255, "has 40x32 pixels and the source 48x32"),
        ((3, 32, 48), 255, "has 3 frames and the source 5; give 5 frames, or 1 for all"),
        ((1, 32, 48), 0, "is black everywhere, so nothing would be edited"),
        ((5, 32, 48), 255, "is white everywhere, so all would be edited"),
    ],
)
def test_masks_that_do_not_fit(shape: tuple[int, int, int], value: int, words: str) -> None:
    mask = clip_of_frames(np.full((*shape, 3), value, np.uint8))
    if "pixels" in words or "frames and" in words:
        mask.reader.frames[:, :4] = 0  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=words):
        check_mask(mask, (48, 32), 5)


def test_one_mask_is_for_all_frames() -> None:
    mask = clip_of_frames(smooth_frames(1, 16, 12))
    batches = list(mask_frames(mask, 5, (8, 6), 2))
    assert sum(map(len, batches)) == 5
    assert all((batch == batches[0][:1]).all() for batch in batches)
    assert batches[0].shape[1:] == (6, 8)


# Motion

MOVING = {
    "across": Scene(
        objects=(Object(name="fox", x=-0.3, y=0.1, size=0.7, dx=0.5, dy=-0.2),), ground="desert"
    ),
    "turning": Scene(
        objects=(Object(name="teapot", x=0.0, y=0.0, size=0.8, spin=0.6, growth=0.2),),
        ground="meadow",
    ),
    "crossing": Scene(
        objects=(
            Object(name="teapot", x=-0.4, y=0.1, size=0.5, dx=0.8),
            Object(name="fox", x=0.4, y=-0.1, size=0.55, dx=-0.8),
        ),
        ground="white",
    ),
    "camera": Scene(
        objects=(Object(name="castle", x=0.1, y=0.0, size=0.8),),
        ground="blue",
        camera=Camera(dx=0.2, spin=0.2),
    ),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_moved_mask_follows_the_front_object(name: str) -> None:
    scene, artwork = MOVING[name], Artwork()
    times = frame_times(24)
    frames = [render(scene, "3D render", artwork, size=256, time=time) for time in times]
    clip = np.stack([(255 * frame).round().astype(np.uint8) for frame in frames])
    masks = [object_masks(scene, artwork, size=256, time=time)[-1] > 0.5 for time in times]
    first = (255 * masks[0]).astype(np.uint8)
    carried = list(carry_mask(first, [clip[:10], clip[10:]], (range(24),)))
    assert len(carried) == 24
    np.testing.assert_array_equal(carried[0][0], first)
    last = carried[-1][0] > 127
    assert (last & masks[-1]).sum() / (last | masks[-1]).sum() >= 0.85
    stays = first > 127
    assert (stays & masks[-1]).sum() / (stays | masks[-1]).sum() < 0.75  # It did move.


def test_a_mask_ends_at_a_cut() -> None:
    frames = smooth_frames(4, 64, 64)
    mask = np.full((64, 64), 255, np.uint8)
    carried = np.concatenate(list(carry_mask(mask, [frames], (range(2), range(2, 4)))))
    assert carried[:2].any()
    assert not carried[2:].any()


# Whole runs


@pytest.mark.parametrize(
    ("more", "box"),
    [
        ((), BOX),
        (("--mask-feather", "0", "--noise-share", "0.3", "--seed", "3"), BOX),
        (("--invert-mask",), BOX),
        (("--original-size",), BOX),
        (("--original-size", "--size", "40x24", "--mask-feather", "0"), BOX),
        (("--original-size", "--size", "40x24", "--invert-mask"), BOX),
    ],
)
def test_outside_the_source_stays(
    cli: Cli, tmp_path: Path, more: tuple[str, ...], box: tuple[slice, slice]
) -> None:
    save_frames(tmp_path / "in", 3)
    save_mask(tmp_path / "mask.png", *box)
    size = () if more[:1] == ("--original-size",) else ("--size", "48x32")
    run = ("in", *SHORT, "--guidance-scale", "5", *size, *more)
    result = cli(*run, "--mask", "mask.png", "-o", "out")
    assert result[0] == 0, result
    edited = np.zeros((32, 48), bool)
    edited[box] = True
    if "--invert-mask" in more:
        edited = ~edited
    for number in range(3):
        source = pixels(tmp_path / "in" / f"source{number}.png").astype(int)
        made = pixels(tmp_path / "out" / f"{number + 1:06d}.png").astype(int)
        difference = np.abs(made - source).max(-1)
        assert not difference[~edited].any()
        assert difference[edited].mean() > 10


def test_masks_of_any_kind_of_picture_do_the_same(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 1)
    grey = pixels(save_mask(tmp_path / "grey.png", *BOX))[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.jpg", quality=90)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey).convert("1").save(tmp_path / "bits.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    save_alpha(tmp_path / "alpha.png", 255)
    for name in ("grey.png", "deep.png", "bits.png", "palette.png", "alpha.png", "grey.jpg"):
        run = ("in/source0.png", *SHORT, "--size", "48x32", "--mask", name)
        assert cli(*run, "-o", f"out/{name}.png")[:2] == (0, f"out/{name}.png\n"), name
        made, first = (pixels(tmp_path / "out" / f"{one}.png") for one in (name, "grey.png"))
        if name.endswith("jpg"):
            assert np.abs(made.astype(int) - first).max() < 10
        else:
            np.testing.assert_array_equal(made, first)


def test_a_mask_clip_follows_the_range_of_the_source(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 6)
    (tmp_path / "masks").mkdir()
    boxes = [(slice(8, 24), slice(4 * i, 4 * i + 16)) for i in range(6)]
    for i, box in enumerate(boxes):
        save_mask(tmp_path / "masks" / f"{i}.png", *box)
    part = ("--start", "1", "--stride", "2", "--frames", "2", "--size", "48x32")
    assert cli("in", *SHORT, *part, "--mask", "masks", "-o", "out")[0] == 0
    for made, frame in ((1, 1), (2, 3)):
        source = pixels(tmp_path / "in" / f"source{frame}.png").astype(int)
        result = pixels(tmp_path / "out" / f"{made:06d}.png").astype(int)
        changed = np.abs(result - source).max(-1) > 0
        assert changed[boxes[frame]].mean() > 0.5
        changed[boxes[frame]] = False
        assert not changed.any()


def test_python_has_the_same_and_inside_is_as_without_a_mask(tiny_model: Path) -> None:
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    frames = smooth_frames(2, 48, 32)
    mask = np.zeros((32, 48, 3), np.uint8)
    mask[:, :24] = 255

    def run(**more: object) -> np.ndarray:
        made = pipeline(
            "a stone", video=list(frames), num_inference_steps=2, width=48, height=32,
            blend_radius=0, output_type="np", **more,
        ).frames[0]  # fmt: skip
        return np.rint(255 * made).astype(int)

    part = run(mask=mask, mask_feather=0)
    np.testing.assert_array_equal(part[:, :, 24:], frames[:, :, 24:])
    assert np.abs(part[:, :, :24] - frames[:, :, :24]).mean() > 10
    np.testing.assert_array_equal(
        run(mask=mask, invert_mask=True, mask_feather=0)[:, :, :24], frames[:, :, :24]
    )
    with pytest.raises(InputError, match="did you mean mask_feather"):
        run(mask=mask, mask_fether=3)
    with pytest.raises(
        InputError, match="mask_motion moves a mask of one frame, and this mask has"
    ):
        run(mask=np.stack([mask, mask]), mask_motion=True)
    with pytest.raises(InputError, match="invert_mask needs a mask"):
        run(invert_mask=True)


def test_a_job_with_another_mask_samples_anew(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 1)
    save_mask(tmp_path / "a.png", *BOX)
    save_mask(tmp_path / "b.png", slice(0, 32), slice(0, 12))
    for mask in ("a.png", "b.png"):
        run = ("in", *SHORT, "--size", "48x32", "--mask", mask)
        assert cli(*run, "--job", "job", "-o", f"job-{mask}")[0] == 0
        assert cli(*run, "-o", f"own-{mask}")[0] == 0
        np.testing.assert_array_equal(
            pixels(tmp_path / f"job-{mask}"), pixels(tmp_path / f"own-{mask}")
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mask", "none.png"), "none.png does not exist"),
        (("--mask", "text.png"), "text.png is not"),
        (("--mask", "small.png"), "has 20x10 pixels and the source 48x32"),
        (("--mask", "empty.png"), "the mask is black everywhere, so nothing would be edited"),
        (("--mask", "full.png"), "the mask is white everywhere, so all would be edited; paint"),
        (("--mask", "masks"), "the mask has 2 frames and the source 1; give 1 frames, or 1"),
        (("--mask", "cut.png"), "cut.png"),
        (("--mask", "nothing"), "nothing is empty"),
        (("--mask", "notes"), "notes has no images"),
        (("--mask", "sizes"), "different sizes"),
        (
            ("--mask", "drawn.png"),
            "the mask is black everywhere (transparent pixels count as black), so nothing",
        ),
        (("--mask", "clear.png"), "the mask is black everywhere (transparent pixels count as"),
        (("--mask", "https://a.b/c.png"), "is an address"),
        (("--mask", "good.png", "--mask-from-prompt", "the dog"), "not both"),
        (("--mask-from-prompt", " "), "mask_from_prompt is empty"),
        (("--mask-motion",), "there is none; give one"),
        (("--invert-mask",), "there is none; give one"),
        (("--mask", "good.png", "--mask-feather", "-1"), "mask_feather is -1"),
        (("--mask", "good.png", "--mask-feather", "wide"), "mask_feather"),
        (("--mask", "good.png", "--overwrite", "-o", "good.png"), "would write over the mask"),
    ],
)
def test_bad_masks(
    cli: Cli, picture: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    save_mask(tmp_path / "good.png", *BOX)
    save_mask(tmp_path / "empty.png")
    save_mask(tmp_path / "full.png", slice(0, 32), slice(0, 48))
    save_mask(tmp_path / "small.png", slice(0, 4), slice(0, 4), size=(20, 10))
    (tmp_path / "masks").mkdir()
    for i in range(2):
        save_mask(tmp_path / "masks" / f"{i}.png", *BOX)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    (tmp_path / "nothing").write_bytes(b"")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("x")
    (tmp_path / "sizes").mkdir()
    save_mask(tmp_path / "sizes" / "0.png", *BOX)
    save_mask(tmp_path / "sizes" / "1.png", *BOX, size=(20, 10))
    save_alpha(tmp_path / "drawn.png", 0)
    save_alpha(tmp_path / "clear.png", 255, opaque=False)
    before = names(tmp_path)
    result = cli("source0.png", *SHORT, "-o", "out.png", *arguments, model="no/such")
    assert_refused(result, 2, words)
    assert names(tmp_path) == before


# What a text names


def test_attention_maps_against_naive_ones(tiny_model: Path) -> None:
    pipeline = PnPVideoPipeline.from_pretrained(tiny_model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = pipeline.model_options.override({"steps": 10})
    clip = as_clip(list(smooth_frames(3, 48, 32)))
    request = Edit(source=clip, size=(48, 32), options=options, generators=seeded(0))
    opened = OpenEdit(pipeline.model, request, QUIET)
    opened.invert()
    source = opened.source
    text = pipeline.encode_texts(["the red dog"])
    words = words_of(pipeline.model, "the red dog")
    assert (
        "".join(
            pipeline.tokenizer.decode([pipeline.tokenizer("the red dog").input_ids[i]])
            for i in words
        ).replace(" ", "")
        == "reddog"
    )
    with pipeline.model.network() as network:
        batches = attention_maps(network, source.trajectory, text, words, batch_size=2)
        found = torch.cat(list(batches))
        pairs = list(named_maps(network, source.trajectory, text, words, batch_size=2))
        spread = torch.cat([one for _, one in pairs])
    torch.testing.assert_close(torch.cat([one for one, _ in pairs]), found)
    assert found.shape == (3, *source.trajectory.latents.shape[-2:])

    naive = torch.zeros(3, *found.shape[1:], dtype=torch.float64)
    seen: list[tuple[object, torch.Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs, named: seen.append((layer, inputs[0])), with_kwargs=True
        )
        for layer in pipeline.unet.modules()
        if getattr(layer, "is_cross_attention", False)
    ]
    steps = [round(share * 9) for share in (0.65, 0.8, 0.9)]
    with torch.no_grad():
        for step in steps:
            latents = source.trajectory.latents[step, :].float()
            timestep = source.trajectory.timesteps[step]
            pipeline.unet(latents, timestep, text.hidden.expand(3, -1, -1))
    for hook in hooks:
        hook.remove()
    for layer, tokens in seen:
        query = (tokens.double() @ layer.to_q.weight.double().T).unflatten(-1, (layer.heads, -1))
        key = (text.hidden[0].double() @ layer.to_k.weight.double().T).unflatten(
            -1, (layer.heads, -1)
        )
        scores = torch.einsum("bnhd,whd->bhnw", query, key) / query.shape[-1] ** 0.5
        map_ = scores.softmax(-1).mean(1)[..., words].sum(-1)
        height = round((map_.shape[1] * 2 / 3) ** 0.5)
        grid = map_.unflatten(1, (height, -1))[:, None]
        large = torch.nn.functional.interpolate(grid, found.shape[1:], mode="bilinear")[:, 0]
        naive += large / large.mean((1, 2), keepdim=True) / len(seen)
    torch.testing.assert_close(found.double(), naive, atol=1e-5, rtol=1e-5)

    layer = pipeline.unet.up_blocks[-1].attentions[0].transformer_blocks[0].attn1
    inputs: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].double()))
    with torch.no_grad():
        for step in steps:
            latents = source.trajectory.latents[step, :].float()
            timestep = source.trajectory.timesteps[step]
            pipeline.unet(latents, timestep, text.hidden.expand(3, -1, -1))
    hook.remove()
    for _ in range(2):
        passed = torch.zeros_like(naive)
        for tokens in inputs:
            for head in range(layer.heads):
                query, key = (
                    (tokens @ one.weight.double().T).unflatten(-1, (layer.heads, -1))[..., head, :]
                    for one in (layer.to_q, layer.to_k)
                )
                shares = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
                passed += (shares @ naive.flatten(1)[..., None]).view_as(naive)
        naive = passed / passed.mean((1, 2), keepdim=True)
    torch.testing.assert_close(spread.double(), naive, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--mask-from-prompt", "the dog"),
         "'the dog' is not found in the source; name something that it"),
        (("--mask-from-prompt", "the"),
         "mask_from_prompt is 'the', which names nothing; name something in the source"),
        (("--mask-from-prompt", "the dog", "--mask-feather", "17"),
         "mask_feather is 17; give at most 16, half of the shorter side of the working"),
        (("--mask", "mask.png", "--mask-feather", "99"), "mask_feather is 99; give at most 16"),
    ],
)  # fmt: skip
def test_what_only_a_model_can_refuse(
    cli: Cli, picture: Path, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    save_mask(tmp_path / "mask.png", *BOX)
    before = names(tmp_path)
    run = ("source0.png", *SHORT, "--size", "48x32", *more, "-o", "out.png")
    assert_refused(cli(*run), 2, words)
    assert names(tmp_path) == before
