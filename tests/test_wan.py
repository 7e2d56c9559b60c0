"""Wan 2.1 and 2.2 against naive references and diffusers' own pipeline, and from files to files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import flow_models
import numpy as np
import pytest
import reference_flow as reference
import reference_flow_methods as methods
import torch
from clips import describe, frame_times, make_video, samples, smooth_frames
from command import Cli, pixels, save_frames
from PIL import Image
from torch import Tensor

from pnpvideo.cli import main
from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.errors import InputError
from pnpvideo.loading.load_flow import load_flow
from pnpvideo.models.batches import Batches
from pnpvideo.models.flow.model import FlowModel
from pnpvideo.models.flow.wan import Wan
from pnpvideo.models.model import Window
from pnpvideo.models.network import Batch, InjectionLayers
from pnpvideo.models.noise_schedule import flow_schedule
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.options.edit_method import consistency, steering
from pnpvideo.pipelines.flow import PnPFlowPipeline
from pnpvideo.sampling.denoise import denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.invert import invert_scene, reconstruct_latents
from pnpvideo.sampling.schedule import first_step
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import edit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

SIZE = (48, 32)
KINDS = {
    "2.1": flow_models.save_tiny_wan,
    "a14b": flow_models.save_tiny_wan_a14b,
    "5b": flow_models.save_tiny_wan_5b,
}
METHODS = ("uniedit", "flowedit", "flowalign", "steerflow")
Models = Callable[[str], FlowModel]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return flow_models.saved_when_asked(KINDS, tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def models(folders: Callable[[str], Path]) -> Models:
    return flow_models.in_float64_when_asked(folders)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(ours: Tensor, theirs: Tensor, within: float = 1e-10) -> None:
    assert float((ours - theirs).norm() / theirs.norm()) < within


def short(model: FlowModel, *texts: str) -> PromptEmbeddings:
    """Texts of which some tokens are left, which saves the references much time."""
    embeddings = model.encode_texts(texts)
    return PromptEmbeddings(hidden=embeddings.hidden[:, :16])


# The model


@pytest.mark.parametrize(
    ("name", "guidance", "second"),
    [*((name, guidance, None) for name in KINDS for guidance in (1.0, 5.0)), ("a14b", 5.0, 3.0)],
)
def test_text_to_video_is_diffusers(
    name: str, guidance: float, second: float | None, folders: Callable[[str], Path]
) -> None:
    """Bit for bit in float32 with Euler's steps, and through both transformers of A14B.

    second: the guidance scale of the one for low noise.
    """
    pipeline = PnPFlowPipeline.from_pretrained(folders(name), dtype=torch.float32)
    model, pipe = pipeline.model, pipeline.pipe
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(
        model.autoencoder.latents_shape(3, SIZE), generator=torch.Generator().manual_seed(3)
    )
    theirs = pipe(
        "a stone",
        negative_prompt="blurry",
        height=SIZE[1],
        width=SIZE[0],
        num_frames=9,
        num_inference_steps=5,
        guidance_scale=guidance,
        guidance_scale_2=second,
        latents=noise.transpose(0, 1)[None].clone(),
        output_type="latent",
    ).frames
    texts = model.encode_texts(["a stone"])
    if guidance != 1:
        texts = concatenate([model.encode_texts(["blurry"]), texts])
    schedule = model.schedule(model.defaults.override({"steps": 5}), SIZE)
    with model.network() as network:
        ours = reconstruct_latents(
            network,
            schedule,
            noise,
            texts,
            guidance_scale=guidance,
            guidance_scale_2=second,
            boundary=model.boundary,
            batches=Batches(1),
            window=window_of(model),
        )[-1]
        assert model.experts.boundary in (None, 875)
        used = {id(model.experts.at(timestep)) for timestep in schedule.timesteps}
        assert len(used) == len(model.experts.present)
    found = ours.transpose(0, 1)[None]
    assert torch.equal(found, theirs)


@pytest.mark.parametrize("steps", [1, 4, 25])
@pytest.mark.parametrize("shift", [3.0, 5.0])
def test_levels_are_those_of_the_scheduler(steps: int, shift: float, models: Models) -> None:
    """UniPC's, whose timesteps are whole numbers that are cut off, and Euler's."""
    model = models("2.1")
    options = model.defaults.override({"steps": steps, "inversion_steps": 2 * steps})
    own, pipe = model.pipe.scheduler, model.pipe
    try:
        pipe.scheduler = type(own).from_config(own.config, flow_shift=shift)
        found = model.schedule(options, SIZE)
        theirs = type(own).from_config(own.config, flow_shift=shift)
        theirs.set_timesteps(steps)
        assert [level.noise for level in found.levels] == theirs.sigmas.double().tolist()
        assert list(found.timesteps) == theirs.timesteps.tolist()
        assert all(timestep == int(timestep) for timestep in found.inversion_timesteps)
        pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        found = model.schedule(options, SIZE)
        pipe.scheduler.set_timesteps(steps)
        assert [level.noise for level in found.levels] == pipe.scheduler.sigmas.double().tolist()
    finally:
        pipe.scheduler = own


@pytest.mark.usefixtures("exactly")
@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_hooks_change_nothing_and_skipped_blocks_return_what_they_are_given(
    name: str, models: Models
) -> None:
    model = models(name)
    _, channels, height, width = model.autoencoder.latents_shape(1, SIZE)
    latents = draw(5, 2, channels, 3, height, width)
    texts = short(model, "a stone", "two old trees")
    for timestep in (950.0, 300.0):
        batch = Batch(latents=latents, timestep=timestep, texts=texts)
        with model.network() as network:
            whole = network.predict(batch)
            for row in range(2):
                some = slice(row, row + 1)
                one = Batch(latents=latents[some], timestep=timestep, texts=texts[some])
                close(network.predict(one), whole[some], 1e-12)
            seen = []

            def read(tokens: Tensor, seen: list[Any] = seen) -> Tensor:
                seen.append(tokens.shape)
                return tokens.clone()

            for kind in "qkvf":
                with network.tokens_of("blocks.1", kind).changed(read):
                    close(network.predict(batch), whole, 1e-12)
            assert seen == [(2, 3 * (height // 2) * (width // 2), 24)] * 4
            with network.skipping("blocks.0"):
                skipped = network.predict(batch)
            module = model.experts.at(timestep).blocks[0]
            module.forward = lambda hidden_states, *_: hidden_states
            try:
                assert torch.equal(skipped, network.predict(batch))
            finally:
                del module.forward
            assert not torch.allclose(skipped, whole)


# Steps


def window_of(model: FlowModel) -> Window:
    assert model.window is not None
    return model.window


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("name", ["2.1", "a14b"])
def test_inversion_is_the_references(name: str, models: Models) -> None:
    """And switches between the transformers where sampling does."""
    model = models(name)
    schedule = model.schedule(model.defaults.override({"steps": 3}), SIZE)
    text, clean = short(model, "a stone"), draw(1, 2, 4, 4, 6)
    with model.network() as network:
        levels = dict(invert_scene(network, schedule, clean, text, window=window_of(model)))
    clips = {level: latents.transpose(0, 1) for level, latents in levels.items()}
    plain = reference.Text(hidden=text.hidden[0], pooled=None)
    for low in range(3, 0, -1):
        told, (above, below) = schedule.timesteps[low - 1], schedule.levels[low - 1 : low + 1]
        net = model.experts.at(told)
        v = reference.wan_velocity(net, clips[low], told, plain, reference.Row())
        step = clips[low] * 1.0 + (above.noise - below.noise) * v
        close(clips[low - 1], step)


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("kinds", ["qk", "kv", "v", "f", "qkvf"])
def test_sampling_with_injection_is_the_references(kinds: str, models: Models) -> None:
    """A step of one clip and two prompts, against one row at a time.

    It is below the boundary, where the second guidance scale counts.
    """
    model = models("2.1")
    blocks = ("blocks.0", "blocks.1")
    layers = InjectionLayers(
        features=(), attentions=(), shared=(), blocks=tuple((block, kinds) for block in blocks)
    )
    options = model.defaults.override(
        {"method": "inject", "steps": 1, "tau_a": 1.0, "tau_f": 1.0, "guidance_scale": 9.0}
        | {"exact_source": False, "guidance_scale_2": 2.5}
    )
    schedule = flow_schedule([0.9, 0.0])
    texts = Texts(
        source=short(model, "a hill"),
        targets=short(model, "a stone", "two old trees"),
        negatives=short(model, "", "blurry"),
        unconditional=short(model, ""),
    )
    levels, start = draw(1, 2, 2, 4, 4, 6), draw(2, 2, 2, 4, 4, 6)
    trajectory = Trajectory(latents=LatentMemory(levels), timesteps=schedule.timesteps)
    with model.network() as network:
        found = denoise_latents(
            network,
            layers,
            schedule,
            trajectory,
            start,
            Guidance(texts, options, together=True, boundary=900.5),
            options,
            torch.Generator(),
            batch_size=2,
            window=model.window,
        )
    velocity = partial(reference.wan_velocity, model.transformer)

    def text(embeddings: PromptEmbeddings, number: int = 0) -> reference.Text:
        return reference.Text(hidden=embeddings.hidden[number], pooled=None)

    for prompt in range(2):
        step = reference.sample_step(
            lambda x, sigma, *rest: velocity(x, 1000 * sigma, *rest),
            start[prompt].transpose(0, 1),
            levels[0].transpose(0, 1),
            0.9,
            0.0,
            {
                "source": text(texts.source),
                "target": text(texts.targets, prompt),
                "negative": text(texts.negatives, prompt),
            },
            dict.fromkeys(blocks, kinds),
            2.5,
        )
        close(found[prompt].transpose(0, 1), step)


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize(
    ("method", "name", "boost"),
    [
        *((method, name, 0.0) for method in METHODS for name in ("2.1", "a14b")),
        ("flowedit", "2.1", 1.5),
        ("flowalign", "2.1", 0.7),
    ],
)
def test_every_step_of_a_method_is_the_references(
    method: str, name: str, boost: float, models: Models
) -> None:
    """All steps of one clip, with what a method measures measured of all of it.

    Through both transformers of A14B, each with a guidance scale of its own.
    """
    model, count = models(name), 3
    low_noise = 2.0 if name == "a14b" else None
    options = model.defaults.override(
        {"method": method, "steps": 4 if low_noise else 3, "guidance_scale": 3.0, "strength": 0.8}
        | {"exact_source": False, "source_guidance": 1.0, "guidance_scale_2": low_noise}
        | {"long_scene_boost": boost}
    )
    schedule = model.schedule(options, SIZE)
    texts = Texts(
        source=short(model, "a hill"),
        targets=short(model, "a stone"),
        negatives=short(model, "blurry"),
        unconditional=short(model, ""),
    )
    levels = draw(1, len(schedule.levels), count, 4, 4, 6)
    trajectory = Trajectory(latents=LatentMemory(levels), timesteps=schedule.timesteps)
    steps: list[Tensor] = []

    def keep(step: int, timestep: float, latents: Tensor, part: range) -> Tensor:
        steps.append(latents[0].transpose(0, 1).clone())
        return latents

    first = first_step(options)
    with model.network() as network:
        start = levels[-1 if options.edits_clean else first][None]
        denoise_latents(
            network,
            model.layers,
            schedule,
            trajectory,
            start,
            Guidance(texts, options, together=True, boundary=model.boundary),
            options,
            torch.Generator().manual_seed(4),
            batch_size=1,
            window=model.window,
            after_step=keep,
        )
    generator = torch.Generator().manual_seed(4)
    # Each step draws for all latents, the first ones too that a strength leaves out.
    drawn = [torch.randn(count, 4, 4, 6, generator=generator).double() for _ in range(len(steps))]
    path = methods.Path(
        schedule.timesteps,
        [(level.signal, level.noise) for level in schedule.levels],
        [(m.timestep, (m.level.signal, m.level.noise)) for m in schedule.middles],
        schedule.clean_timestep,
        "flow",
    )

    def net(x: Tensor, told: float, text: PromptEmbeddings) -> Tensor:
        plain = reference.Text(hidden=text.hidden[0], pooled=None)
        return reference.wan_velocity(model.experts.at(told), x, told, plain, reference.Row())

    def scale(told: float) -> float:
        return 2.0 if low_noise and told < 875 else 3.0

    if low_noise:
        assert {scale(told) for told in schedule.timesteps[first:]} == {2.0, 3.0}
    found = methods.edit(
        net,
        path,
        [level.transpose(0, 1) for level in levels],
        {
            "source": texts.source,
            "target": texts.targets,
            "negative": texts.negatives,
            "empty": texts.unconditional,
        },
        method,
        first=first,
        scale=scale,
        boost=boost,
        zeta=consistency(0.8),
        gamma=steering(0.8),
        noises=[noise.transpose(0, 1) for noise in drawn],
    )
    assert len(steps) == len(found) > 1
    for ours, theirs in zip(steps, found, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("method", ["uniedit", "flowalign"])
def test_windows_leave_no_seam(
    method: str, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under its own text a moving source comes back, at every latent of four windows."""
    monkeypatch.setattr(Wan, "window", Window(length=3, stride=2))
    model = PnPFlowPipeline.from_pretrained(folders("2.1"), dtype=torch.float32).model
    options = model.defaults.override({"method": method, "guidance_scale": 1.0})
    request = Edit(
        source=clip_of_frames(smooth_frames(29, *SIZE)),
        prompt="a stone",
        inversion_prompt="a stone",
        options=options,
        size=SIZE,
        generators=seeded(0),
        storage=Storage(precision="full"),
    )
    with edit(model, request, QUIET) as result:
        clean = result.source.trajectory.clean
        torch.testing.assert_close(result.latents[0], clean, rtol=1e-5, atol=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("scheduler", {"prediction_type": "epsilon"}, "has prediction_type 'epsilon', and Wan nee"),
        ("scheduler", {"use_flow_sigmas": False}, "has use_flow_sigmas False, and Wan needs True"),
        ("transformer", {"in_channels": 8, "out_channels": 8}, "the transformer takes 8"),
        ("transformer", {"image_dim": 8}, "its transformer reads a first frame beside the prompt"),
        ("transformer", {"text_dim": 16}, "the text encoder has 32 channels, and the transformer"),
    ],
)
def test_parts_that_do_not_fit(
    part: str, changes: dict[str, Any], message: str, folders: Callable[[str], Path]
) -> None:
    if part == "scheduler":
        made: Any = diffusers.UniPCMultistepScheduler(
            **{"prediction_type": "flow_prediction", "use_flow_sigmas": True, **changes}
        )
    else:
        made = flow_models.tiny_wan(**changes)
    with pytest.raises(InputError, match=message):
        load_flow(folders("2.1"), **{part: made})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WanImageToVideoPipeline", "a model of videos that reads a first frame"),
        ("WanVACEPipeline", "an editor of videos that reads the source beside the prompt"),
        ("HunyuanVideoPipeline", "another model of videos"),
    ],
)
def test_other_models_of_videos(
    name: str, message: str, cli: Cli, tmp_path: Path, picture: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(f'{{"_class_name": "{name}"}}')
    model = str(tmp_path / "model")
    code, _, told = cli(str(picture), "--prompt", "a stone", "-o", "out.png", model=model)
    assert code == 2
    assert message in told


# From files to files


def translate(cli: Cli, folder: Path, source: Path | str, output: str, *options: str) -> None:
    given = ("--prompt", "a stone", "--size", "48x32", "--steps", "2", *options, "-o", output)
    code, _, told = cli(str(source), *given, model=str(folder))
    assert code == 0, told


@pytest.mark.parametrize(
    ("name", "frames"), [("2.1", 1), ("a14b", 4), ("5b", 5), ("2.1", 41), ("a14b", 82)]
)
def test_all_frames_their_times_and_the_sound(
    name: str, frames: int, folders: Callable[[str], Path], cli: Cli, tmp_path: Path
) -> None:
    size = "64x64" if name == "5b" else "48x32"
    source = make_video(
        tmp_path / "in.mp4", "-c:v", "libx264", "-c:a", "aac", frames=frames, sound=True
    )
    options = ["--method", "flowalign", "--size", size]
    options += ["--guidance-scale-2=2", "--long-scene-boost=1"] if name == "a14b" else []
    translate(cli, folders(name), source, "out.mp4", *options)
    assert frame_times(tmp_path / "out.mp4") == frame_times(source)
    assert "Audio: aac" in describe(tmp_path / "out.mp4")
    assert len(samples(tmp_path / "out.mp4")) == len(samples(source))


def test_200_frames_of_uneven_times(
    folders: Callable[[str], Path], cli: Cli, tmp_path: Path
) -> None:
    uneven = "setpts=N*40/TB/1000+gte(mod(N\\,7)\\,3)*11/TB/1000"
    source = make_video(
        tmp_path / "in.mkv", "-c:v", "libx264", "-vf", uneven, "-fps_mode", "vfr",
        "-enc_time_base", "1/1000", frames=200,
    )  # fmt: skip
    translate(cli, folders("2.1"), source, "out.mkv", "--method", "uniedit", "--size", "32x32")
    times, _ = frame_times(tmp_path / "out.mkv")
    assert times == frame_times(source)[0]
    assert len(times) == 200


def test_a_mask_and_a_job(folders: Callable[[str], Path], cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "clip", 6)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 16:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    area = ("--mask", "mask.png", "--mask-feather", "0", "--job", "job")
    folder = folders("2.1")
    translate(cli, folder, "clip", "out/", *area)
    translate(cli, folder, "clip", "again/", *area)
    made = sorted((tmp_path / "out").glob("*.png"))
    assert len(made) == 6
    for path, source in zip(made, sorted((tmp_path / "clip").iterdir()), strict=True):
        same = (pixels(path) == pixels(source)).all(-1)
        assert same[mask == 0].all()
        assert not same[mask > 0].all()
        np.testing.assert_array_equal(pixels(path), pixels(tmp_path / "again" / path.name))


def test_injection_needs_blocks(folders: Callable[[str], Path], cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "clip", 2)
    given = ("clip", "--prompt", "a stone", "--size", "48x32", "-o", "out/", "--method", "inject")
    code, _, told = cli(*given, model=str(folders("2.1")))
    assert code == 2
    assert "nobody has published which blocks of this Wan to inject into" in told
    assert '"blocks.0": "kv"' in told
    blocks = flow_models.save_tiny_wan_a14b(tmp_path / "own", **{"blocks.0-1": "qk"})
    translate(cli, blocks, "clip", "out/", "--method", "inject")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_blocks_are_measured(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "clip", 2)
    source = str(next((tmp_path / "clip").iterdir()))
    given = (str(folders("2.1")), source, "--prompt", "a stone")
    assert main(["blocks", *given, "--size", "48x32", "--device", "cpu", "-o", "found"]) == 0
    assert list((tmp_path / "found").glob("*.csv"))
