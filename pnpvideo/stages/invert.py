"""Inverts a source to its trajectory, and samples it back from there."""

import torch
from torch import Tensor

from pnpvideo.errors import InputError
from pnpvideo.models.batches import Batches
from pnpvideo.models.failures import check_finite
from pnpvideo.models.model import Control, Model
from pnpvideo.options.method import BRANCHES, PnPOptions
from pnpvideo.sampling.invert import invert_latents, invert_scene, reconstruct_latents
from pnpvideo.sampling.solvers import Solver, choose_solver
from pnpvideo.sampling.spans import widened
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.latents import encode
from pnpvideo.stages.prompts import embed_source_prompt
from pnpvideo.stages.source import Source


def invert(
    model: Model,
    source: Source,
    options: PnPOptions,
    *,
    batch_size: int,
    control: Control | None = None,
    span: range | None = None,
    callbacks: Callbacks,
) -> None:
    """Complete the trajectory of a source, or of a span of its pieces.

    If sampling does not start from inverted latents, that is the clean ones. control: what a
    ControlNet follows. The pieces that the trajectory has already stay.
    """
    count = source.piece_count
    span = span or range(count)
    if source.clips is None:
        # In the batches that all pieces together have, as others would be rounded otherwise.
        span = widened(span, BRANCHES * batch_size, count)
    trajectory = source.trajectory
    if trajectory.unfinished(batch_size, span):
        latents = encode(model, source, batch_size, span)
        if not options.inverts:
            check_finite(latents, "autoencoder", model.dtype)
            for part in trajectory.unfinished(len(span), span):
                some = latents[part.start - span.start : part.stop - span.start]
                trajectory.write(part.start, some[None])
            return
        invert_into(
            model,
            source,
            latents,
            options,
            batch_size=batch_size,
            control=control,
            first=span.start,
            callbacks=callbacks,
        )


def invert_into(
    model: Model,
    source: Source,
    latents: Tensor,
    options: PnPOptions,
    *,
    batch_size: int,
    control: Control | None = None,
    first: int = 0,
    callbacks: Callbacks,
) -> None:
    """Complete the trajectory of a source from clean latents of its pieces from `first` on."""
    trajectory, span = source.trajectory, range(first, first + len(latents))
    schedule = model.schedule(options, source.size)
    text = embed_source_prompt(model, trajectory.prompt, options)
    solver = _solver_of(options)
    passes = solver.passes(len(schedule.inversion_timesteps))
    at_once = BRANCHES * batch_size
    left = _unfinished(source, at_once, span)
    done = len(latents) - sum(part.stop - part.start for part in left)
    batches = Batches(at_once)
    with (
        model.network(control) as network,
        callbacks.bar("inverting", len(latents) * passes, done * passes) as bar,
    ):
        for part in left:
            clean = latents[part.start - first : part.stop - first]
            if model.window is not None:
                levels = invert_scene(
                    network,
                    schedule,
                    clean,
                    text,
                    solver=solver,
                    window=model.window,
                    first=part.start,
                    progress=bar.update,
                )
                for level, inverted in levels:
                    check_finite(inverted, "network", model.dtype)
                    trajectory.latents.write_level(level, part.start, inverted)
                trajectory.latents.finish(part.start, len(clean))
                continue
            inverted = invert_latents(
                network,
                schedule,
                clean,
                text,
                solver=solver,
                batches=batches,
                first=part.start,
                progress=bar.update,
            )
            check_finite(inverted, "network", model.dtype)
            trajectory.write(part.start, inverted)


def _unfinished(source: Source, size: int, span: range) -> list[slice]:
    """Return the pieces that are still to be inverted, in batches of a size, or by scene."""
    if source.clips is None:
        return source.trajectory.unfinished(size, span)
    scenes = source.clips.within(span)
    missing = set(source.trajectory.latents.missing)
    return [slice(scene.start, scene.stop) for scene in scenes if missing.intersection(scene)]


def reconstruct(
    model: Model,
    source: Source,
    options: PnPOptions,
    *,
    batch_size: int,
    control: Control | None = None,
    callbacks: Callbacks,
) -> Tensor:
    """Sample back from z_T to clean latents (pieces, c, h, w): what the inversion preserved.

    control: what a ControlNet followed in the inversion. InputError if nothing is inverted.
    """
    if not options.inverts:
        raise InputError(
            f"with start_from {options.start_from} and method {options.method} there is no "
            "inversion to sample back"
        )
    schedule = model.schedule(options, source.size)
    text = embed_source_prompt(model, source.trajectory.prompt, options)
    solver = _solver_of(options)
    passes = solver.passes_back(len(schedule.timesteps))
    noise = source.trajectory.noise.to(model.latent_dtype)
    clean = torch.empty_like(noise)
    at_once = BRANCHES * batch_size
    batches = Batches(at_once)
    # A batch at a time: all steps of all pieces would be as large as the trajectory.
    parts = [range(first, first + at_once) for first in range(0, len(noise), at_once)]
    if source.clips is not None:
        parts = list(source.clips.scenes)
    with (
        model.network(control) as network,
        callbacks.bar("reconstructing", len(noise) * passes) as bar,
    ):
        for some in parts:
            part = slice(some.start, some.stop)
            clean[part] = reconstruct_latents(
                network,
                schedule,
                noise[part],
                text,
                solver=solver,
                batches=batches,
                window=model.window,
                first=some.start,
                progress=bar.update,
            )[-1]
    return clean


def _solver_of(options: PnPOptions) -> Solver:
    return choose_solver(options.inversion_iterations, options.solver, exact=options.exact_source)
