"""Flow-matching transformers against naive references and diffusers' own pipelines."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import diffusers
import flow_models
import pytest
import reference_flow as reference
import torch
from clips import smooth_frames
from diffusers.models.transformers import transformer_flux
from torch import Tensor

from pnpvideo.clips.clip import clip_of_frames
from pnpvideo.models.batches import Batches
from pnpvideo.models.flow.model import FlowModel
from pnpvideo.models.network import Batch, InjectionLayers
from pnpvideo.models.noise_schedule import flow_schedule
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.pipelines.flow import PnPFlowPipeline
from pnpvideo.sampling.denoise import denoise_latents
from pnpvideo.sampling.guidance import Guidance, Texts
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.invert import invert_latents, reconstruct_latents
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import edit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.trajectory import LatentMemory, Trajectory

SIZE = (32, 24)
FAMILIES = {
    "sd3": flow_models.save_tiny_sd3,
    "flux": flow_models.save_tiny_flux,
    "qwen": flow_models.save_tiny_qwen,
}
ALL = FAMILIES | {
    "z": flow_models.save_tiny_z_image,
    "klein": flow_models.save_tiny_klein,
    "flux_2": flow_models.save_tiny_flux_2,
}
Folders = Callable[[str], Path]
BLOCKS = {
    "sd3": ("transformer_blocks.0", "transformer_blocks.2"),
    "flux": ("transformer_blocks.1", "single_transformer_blocks.0"),
    "qwen": ("transformer_blocks.0", "transformer_blocks.1"),
    "z": ("noise_refiner.0", "layers.1"),
    "klein": ("transformer_blocks.0", "single_transformer_blocks.1"),
    "flux_2": ("transformer_blocks.0", "single_transformer_blocks.1"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return flow_models.saved_when_asked(ALL, tmp_path_factory.mktemp("flow"))


@pytest.fixture(scope="module")
def models(folders: Folders) -> Callable[[str], FlowModel]:
    """Each family's model in float64."""

    @cache
    def loaded(name: str) -> FlowModel:
        return PnPFlowPipeline.from_pretrained(folders(name), dtype=torch.float64).model

    return loaded


def velocity_of(name: str, model: FlowModel, guidance: float = 1.0) -> reference.Velocity:
    net = model.transformer
    if name != "flux":
        own = reference.sd3_velocity if name == "sd3" else reference.qwen_velocity
        return partial(own, net)
    return lambda *given: reference.flux_velocity(net, *given, guidance)


def text_of(embeddings: PromptEmbeddings) -> reference.Text:
    length = None if embeddings.lengths is None else embeddings.lengths[0]
    pooled = None if embeddings.pooled is None else embeddings.pooled[0]
    return reference.Text(hidden=embeddings.hidden[0, :length], pooled=pooled)


def short(model: FlowModel, *texts: str) -> PromptEmbeddings:
    """Texts of which only some tokens are left, which saves the references much time."""
    embeddings = model.encode_texts(texts)
    if embeddings.lengths is not None:  # They are short, and differ.
        return embeddings
    return replace(embeddings, hidden=embeddings.hidden[:, :24])


def random_latents(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, 6, 8, generator=generator, dtype=torch.float64)


def close(ours: Tensor, theirs: Tensor, within: float = 1e-10) -> None:
    assert float((ours - theirs).norm() / theirs.norm()) < within


@pytest.mark.parametrize("name", FAMILIES)
def test_inversion_is_the_references(name: str, models: Callable[[str], FlowModel]) -> None:
    model = models(name)
    options = model.defaults.override({"steps": 3})
    schedule, text = model.schedule(options, SIZE), short(model, "a stone")
    clean = random_latents(2)
    with model.network() as network:
        found = invert_latents(network, schedule, clean, text, batches=Batches(2))
    sigmas = [level.noise for level in schedule.levels]
    velocity = velocity_of(name, model)
    for piece in range(2):
        for low in range(3, 0, -1):
            step = reference.invert_step(
                velocity, found[low, piece], sigmas[low], sigmas[low - 1], text_of(text)
            )
            close(found[low - 1, piece], step)


@pytest.mark.parametrize(
    ("kinds", "exact"),
    [("qk", False), ("kv", False), ("v", False), ("f", False), ("qkvf", False), ("kv", True)],
)
@pytest.mark.parametrize("name", FAMILIES)
def test_sampling_with_injection_is_the_references(
    name: str, kinds: str, exact: bool, models: Callable[[str], FlowModel]
) -> None:
    """Two pieces and two prompts in one batch, against one row at a time."""
    model = models(name)
    layers = InjectionLayers(
        features=(), attentions=(), shared=(), blocks=tuple((b, kinds) for b in BLOCKS[name])
    )
    options = model.defaults.override(
        {
            "steps": 1,
            "tau_a": 1.0,
            "tau_f": 1.0,
            "guidance_scale": 2.5,
            "exact_source": exact,
            "method": "inject",
        }
    )
    schedule = flow_schedule([0.9, 0.0])
    prompts = ["a stone", "two old trees"]
    texts = Texts(
        source=short(model, "a hill"),
        targets=short(model, *prompts),
        negatives=short(model, "", "blurry"),
        unconditional=short(model, ""),
    )
    source, start = random_latents(2, 1), random_latents(4, 2).unflatten(0, (2, 2))
    levels = torch.stack([source, random_latents(2, 3)])
    trajectory = Trajectory(
        latents=LatentMemory(levels), timesteps=schedule.timesteps, prompt="a hill"
    )
    with model.network() as network:
        found = denoise_latents(
            network,
            layers,
            schedule,
            trajectory,
            start,
            Guidance(texts, options, model.rescaled),
            options,
            torch.Generator(),
            batch_size=2,
        )
    built_in = model.family.takes_guidance(model.transformer)
    plain, guided = velocity_of(name, model), velocity_of(name, model, 2.5)

    def velocity(latents: Tensor, sigma: float, text: reference.Text, row: reference.Row) -> Tensor:
        own = plain if text is named["source"] else guided
        return own(latents, sigma, text, row)

    for prompt in range(2):
        named = {
            "source": text_of(texts.source),
            "target": text_of(texts.targets[prompt : prompt + 1]),
        }
        if not built_in:
            named["negative"] = text_of(texts.negatives[prompt : prompt + 1])
        for piece in range(2):
            step = reference.sample_step(
                velocity,
                start[prompt, piece],
                source[piece],
                schedule.levels[0].noise,
                0.0,
                named,
                dict.fromkeys(BLOCKS[name], kinds),
                2.5,
                levels[1, piece] - source[piece] if exact else None,
                **({"rescaled": reference.qwen_rescaled} if name == "qwen" else {}),
            )
            close(found[prompt, piece], step)


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(ALL.keys() - {"flux_2"}))
def test_batched_equals_one_by_one_and_hooks_change_nothing(
    name: str, models: Callable[[str], FlowModel]
) -> None:
    """Texts of different lengths in one batch, and places that are read and written back."""
    model = models(name)
    shape = model.autoencoder.latents_shape(3, SIZE)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    texts = concatenate([model.encode_texts([text]) for text in ("a stone", "", "two old trees")])
    with model.network() as network:
        together = network.predict(Batch(latents=latents, timestep=700.0, texts=texts))
        for row in range(3):
            some = slice(row, row + 1)
            one = Batch(latents=latents[some], timestep=700.0, texts=texts[some])
            # Z-Image's rotary embeddings are complex numbers in float32.
            close(network.predict(one), together[some], 1e-6 if name == "z" else 1e-12)
        layers = replace(model.layers, blocks=tuple((block, "qkvf") for block in BLOCKS[name]))
        seen = []

        def read(tokens: Tensor) -> Tensor:
            seen.append(tokens.shape)
            return tokens.clone()

        for injected in FeatureInjector(network, layers).tokens:
            with injected.place.changed(read):
                again = network.predict(Batch(latents=latents, timestep=700.0, texts=texts))
            assert torch.equal(again, together)
        assert seen == [(3, 12, 16)] * 8


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(ALL.keys() - {"flux_2"}))
def test_a_skipped_block_returns_what_it_is_given(
    name: str, models: Callable[[str], FlowModel]
) -> None:
    """Against blocks whose forward is replaced by hand."""
    model = models(name)
    latents = torch.randn(model.autoencoder.latents_shape(1, SIZE), dtype=torch.float64)
    batch = Batch(latents=latents, timestep=700.0, texts=model.encode_texts(["two old trees"]))

    def both(hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return encoder_hidden_states, hidden_states

    def stream(x: Tensor | None = None, *_: Any, **given: Any) -> Any:
        return given["hidden_states"] if x is None else x

    stacks = {
        "sd3": {"transformer_blocks": both},
        "flux": {"transformer_blocks": both, "single_transformer_blocks": both},
        "qwen": {"transformer_blocks": both},
        "klein": {"transformer_blocks": both, "single_transformer_blocks": stream},
        "z": {"noise_refiner": stream, "layers": stream},
    }[name]
    blocks = {
        f"{stack}.{number}": (block, forward)
        for stack, forward in stacks.items()
        for number, block in enumerate(getattr(model.transformer, stack))
    }
    with model.network() as network:
        assert set(network.blocks) == blocks.keys()
        whole, found = network.predict(batch), []
        for block, (module, forward) in blocks.items():
            with network.skipping(block):
                found.append(network.predict(batch))
            module.forward = forward
            try:
                assert torch.equal(found[-1], network.predict(batch))
            finally:
                del module.forward
        assert torch.equal(network.predict(batch), whole)
    assert all(not torch.equal(one, whole) for one in found)


@torch.no_grad()
def test_tokens_put_in_at_the_projections_are_those_put_in_at_the_attention(
    models: Callable[[str], FlowModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Norms and positions between the two are the same for all rows, so the order is free."""
    model, count = models("flux"), 12
    latents = torch.randn(model.autoencoder.latents_shape(2, SIZE), dtype=torch.float64)
    batch = Batch(latents=latents, timestep=700.0, texts=short(model, "a stone", "two old trees"))
    real, calls = transformer_flux.dispatch_attention_fn, list[int]()

    def first_row(tokens: Tensor) -> Tensor:
        return tokens[:1].expand_as(tokens)

    def attend(*given: Any, **keywords: Any) -> Any:
        if len(calls) == number:
            given = tuple(
                torch.cat([part[:, :-count], first_row(part[:, -count:])], 1) for part in given
            )
        calls.append(1)
        return real(*given, **keywords)

    monkeypatch.setattr(transformer_flux, "dispatch_attention_fn", attend)
    with model.network() as network:
        number = -1
        plain = network.predict(batch)
        for place, block in enumerate(network.blocks):
            number = -1
            with contextlib.ExitStack() as stack:
                for kind in "qkv":
                    stack.enter_context(network.tokens_of(block, kind).changed(first_row))
                ours = network.predict(batch)
            calls.clear()
            number = place
            close(ours, network.predict(batch), 1e-13)
            assert not torch.allclose(ours, plain)
        assert len(calls) == len(network.blocks)


@pytest.mark.parametrize("method", ["inject", "uniedit", "flowedit", "flowalign", "steerflow"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_returns_the_source_under_its_own_text(
    name: str, method: str, models: Callable[[str], FlowModel]
) -> None:
    """And goes elsewhere under another text."""
    model = models(name)
    options = model.defaults.override(
        {"method": method, "guidance_scale": 1.0, "tau_f": 0.0, "tau_a": 0.0, "steps": 3}
    )
    found = []
    for prompt in ("a stone", "two old trees"):
        request = Edit(
            source=clip_of_frames(smooth_frames(1, *SIZE)),
            prompt=prompt,
            inversion_prompt="a stone",
            options=options,
            size=SIZE,
            generators=seeded(0),
        )
        with edit(model, request, QUIET) as result:
            clean = result.source.trajectory.clean
            found.append(float((result.latents[0] - clean).norm() / clean.norm()))
    assert found[0] < 1e-6  # Latents are kept in float32.
    assert found[1] > 100 * found[0]


@pytest.mark.parametrize(
    ("name", "guidance"),
    [("flux_2", 3.5), *product(sorted(ALL.keys() - {"flux_2"}), (1.0, 3.5))],
)
def test_text_to_image_is_diffusers(name: str, guidance: float, folders: Folders) -> None:
    """Bit for bit, in float32: levels, texts, packing, guidance and steps.

    But where diffusers runs the negative prompt in a pass of its own, or pads it in one.
    """
    pipeline = PnPFlowPipeline.from_pretrained(folders(name), dtype=torch.float32)
    model, pipe = pipeline.model, pipeline.pipe
    pipe.set_progress_bar_config(disable=True)
    shape = model.autoencoder.latents_shape(1, SIZE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    theirs = pipe(
        prompt="a stone",
        height=SIZE[1],
        width=SIZE[0],
        num_inference_steps=5,
        latents=_as_given(name, noise),
        output_type="latent",
        **_guidance(name, guidance),
    ).images
    options = model.defaults.override({"steps": 5})
    texts = model.encode_texts(["a stone"])
    if texts.guidance is not None:
        texts = texts.with_guidance(guidance)
    elif guidance != 1:
        texts = concatenate([model.encode_texts([""]), texts])
    with model.network() as network:
        ours = reconstruct_latents(
            network,
            model.schedule(options, SIZE),
            noise,
            texts,
            guidance_scale=guidance,
            rescaled=model.rescaled,
            batches=Batches(1),
        )[-1]
    found = _returned(name, ours, pipe.vae)
    if guidance == 1 or name in ("sd3", "flux", "flux_2"):
        assert torch.equal(found, theirs)
    else:
        torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-5)


def _guidance(name: str, scale: float) -> dict[str, Any]:
    if name == "qwen":
        return {"true_cfg_scale": scale, "negative_prompt": ""}
    return {"guidance_scale": scale - (name == "z")}


def _as_given(name: str, noise: Tensor) -> Tensor:
    """Latents in the form that each pipeline takes them in."""
    return _packed(noise) if name in ("flux", "qwen") else noise.clone()


def _packed(latents: Tensor) -> Tensor:
    packed: Any = diffusers.FluxPipeline._pack_latents(latents, *latents.shape)
    return packed  # type: ignore[no-any-return]


def _returned(name: str, latents: Tensor, vae: Any) -> Tensor:
    """Latents in the form that each pipeline returns them in."""
    if name == "flux_2":
        return latents.flatten(2).mT
    if name != "klein":
        return _as_given(name, latents)
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    whole: Any = diffusers.Flux2KleinPipeline._unpatchify_latents(latents * deviation + mean)
    return whole  # type: ignore[no-any-return]
