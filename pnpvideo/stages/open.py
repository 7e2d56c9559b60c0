"""Opening of an edit's source: a clip, a clip with a job, a trajectory, or a generated source."""

from dataclasses import asdict, replace

import torch

from pnpvideo.catalogue.unknown_words import check_named
from pnpvideo.clips.clip import Clip
from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import working_size
from pnpvideo.models.model import Model, Size, words_of
from pnpvideo.options.declared import Lifetime
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import check_subject
from pnpvideo.pixels.control import check_control as check_control_image
from pnpvideo.pixels.mask import check_feather, check_mask
from pnpvideo.sampling.denoise import source_steps
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.control import check_control
from pnpvideo.stages.generate import generate_source
from pnpvideo.stages.latents import decode, full_scene
from pnpvideo.stages.request import Edit
from pnpvideo.stages.source import (
    ClipFrames,
    DecodedFrames,
    KeptFrames,
    Source,
    fingerprint_of,
    held_in,
    pieces_of,
)
from pnpvideo.storage import fingerprint
from pnpvideo.storage.allocate import Storage, empty_trajectory
from pnpvideo.storage.job_folder import Identity, JobFolder
from pnpvideo.storage.trajectory import Held, Trajectory


def check_source(model: Model, request: Edit) -> None:
    """Raise InputError if the source of an edit, or what goes with it, cannot be used.

    Loads nothing and calls no network.
    """
    given, area, options = request.source, request.area, request.options
    check_subject(given, request.guidance_prompt)
    check_control(model, options, request.control_image, generated=given is None)
    model.check_options(options)
    if options.guidance_scale_2 is not None and model.boundary is None:
        raise InputError(
            f"guidance_scale_2 is {options.guidance_scale_2:g}; it is for models with a second "
            "transformer for low noise, such as Wan 2.2 A14B, and this model has none; leave it out"
        )
    if options.long_scene_boost > 0 and model.window is None:
        raise InputError(
            f"long_scene_boost is {options.long_scene_boost:g}; it is for models of videos, in "
            "which a scene goes through the network as a whole; leave it out"
        )
    if area is not None and area.mask is None and not words_of(model, area.named):
        raise InputError(
            f"mask_from_prompt is {area.named!r}, which names nothing; name something in the source"
        )
    check_named(request.mask_from_prompt, model.known_words)
    size = _working_size(model, request)
    if isinstance(given, Trajectory):
        _check_trajectory(model, given, options, size)
        shown = size, pieces_of(_held(model, given))[-1].stop
    elif given is None:
        shown = size, model.autoencoder.frame_count(1)
    else:
        shown = (given.width, given.height), len(given)
    if area is not None and area.mask is not None:
        check_mask(area.mask, *shown)
    if request.control_image is not None:
        check_control_image(request.control_image, *shown)
    if not isinstance(given, Trajectory):
        check_feather(area, size)
    if model.window is not None:
        _check_scenes(options)
        return
    pieces = model.autoencoder.pieces(shown[1], lambda: (range(shown[1]),))
    if options.noise_motion and any(len(piece) > 1 for piece in pieces):
        raise InputError(
            "noise_motion carries noise from frame to frame, and in this model several frames "
            "share one piece of noise; leave it out"
        )


def _check_scenes(options: PnPOptions) -> None:
    """Raise InputError for options that are for models of images, whose frames go one by one."""
    for is_given, name, what in (
        (options.noise_share > 0, "noise_share", "puts the same noise into all frames"),
        (options.noise_motion, "noise_motion", "carries noise from frame to frame"),
        (options.feature_level < 1, "feature_level", "keeps what is read of single frames"),
        (options.attention_sharing != "none", "attention_sharing", "lets frames share attention"),
    ):
        if is_given:
            raise InputError(
                f"{name} {what}, and this is a model of videos, which relates all frames of a "
                "scene to one another by itself; leave it out"
            )


def open_source(
    model: Model, request: Edit, generator: torch.Generator, callbacks: Callbacks
) -> Source:
    """Open the source of an edit that `check_source` accepts.

    A clip is not inverted yet. generator: draws for a source that the model generates.
    """
    if isinstance(request.source, Trajectory):
        return _open_trajectory(model, request, request.source)
    if request.source is None:
        return _open_generated(model, request, generator, callbacks)
    if request.job is None:
        return _open_clip(model, request, request.source)
    return _open_with_job(model, request, request.source, request.job)


def _open_clip(model: Model, request: Edit, clip: Clip) -> Source:
    size, options = _working_size(model, request), request.options
    frames = ClipFrames(clip, size, request.storage, request.batch_size)
    pieces, held = _pieces(model, frames, len(clip))
    everything = request.keep == "all" or request.area is not None
    trajectory = empty_trajectory(
        model.autoencoder.latents_shape(len(pieces), size),
        _timesteps(model, options, size),
        request.inversion_prompt,
        _storage(request),
        model.latent_dtype,
        held=held,
        steps_read=None if everything or not options.inverts else source_steps(options),
    )
    return _source(model, request, frames, pieces, trajectory)


def _open_with_job(model: Model, request: Edit, clip: Clip, job: JobFolder) -> Source:
    size, storage = _working_size(model, request), request.storage
    frames = ClipFrames(clip, size, storage, request.batch_size)
    identity = _identity(model, request, frames, request.inversion_prompt)
    pieces, held = _pieces(model, frames, len(clip))
    trajectory = job.trajectory(
        identity,
        model.autoencoder.latents_shape(len(pieces), size),
        _timesteps(model, request.options, size),
        request.inversion_prompt,
        _storage(request).dtype(model.latent_dtype),
        held,
    )
    return _source(model, request, frames, pieces, trajectory, identity=identity)


def _pieces(model: Model, frames: KeptFrames, count: int) -> tuple[tuple[range, ...], Held]:
    """Return the frame numbers of each piece, and how many each holds in a video model."""
    pieces = model.autoencoder.pieces(count, lambda: frames.scenes)
    return pieces, () if model.window is None else held_in(pieces, frames.scenes)


def _held(model: Model, trajectory: Trajectory) -> Held:
    """Return how many frames each piece of a trajectory holds."""
    return trajectory.held or full_scene(model, trajectory.piece_count)


def _open_trajectory(model: Model, request: Edit, trajectory: Trajectory) -> Source:
    held = _held(model, trajectory)
    if model.window is not None:
        trajectory = replace(trajectory, held=held)
    frames = DecodedFrames(
        trajectory,
        model.autoencoder.size_of(trajectory.latents.shape),
        request.storage,
        lambda: decode(model, trajectory.clean, request.batch_size, held),
    )
    identity: Identity = {}
    if request.job is not None:
        identity = _identity(model, request, frames, trajectory.prompt)
    return _source(model, request, frames, pieces_of(held), trajectory, identity=identity)


def _open_generated(
    model: Model, request: Edit, generator: torch.Generator, callbacks: Callbacks
) -> Source:
    assert request.guidance_prompt is not None
    size = _working_size(model, request)
    trajectory = generate_source(
        model, request.guidance_prompt, size, request.options, generator, callbacks
    )
    return _open_trajectory(model, request, trajectory)


def _source(
    model: Model,
    request: Edit,
    frames: KeptFrames,
    pieces: tuple[range, ...],
    trajectory: Trajectory,
    *,
    identity: Identity | None = None,
) -> Source:
    return Source(
        frames,
        pieces,
        trajectory,
        window=model.window,
        identity=identity,
        area=request.area,
        control_image=request.control_image,
    )


def _storage(request: Edit) -> Storage:
    """Return how a trajectory is kept: exactly if differences of its levels are read."""
    exact = request.options.reads_differences and request.options.inverts
    return replace(request.storage, precision="full") if exact else request.storage


def _working_size(model: Model, request: Edit) -> Size:
    """Return the size at which the source goes through the model. InputError for a wrong one."""
    given, (width, height) = request.source, model.default_size
    if isinstance(given, Trajectory):
        own = model.autoencoder.size_of(given.latents.shape)
        if request.size is not None and request.size != own:
            raise InputError(
                f"the size is {_text(request.size)}, and the trajectory is of "
                f"{_text(own)}; leave the size out, or give the source itself"
            )
        return own
    side: float = (width * height) ** 0.5
    if given is not None:
        width, height = given.width, given.height
    return working_size(width, height, side, model.multiple, request.size, model.longest_side)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _timesteps(model: Model, options: PnPOptions, size: Size) -> tuple[float, ...]:
    """Return the timesteps of a source's trajectory; without an inversion it has none."""
    timesteps = model.schedule(options, size).timesteps
    return timesteps if options.inverts else ()


def _check_trajectory(
    model: Model, trajectory: Trajectory, options: PnPOptions, size: Size
) -> None:
    """Raise InputError unless a trajectory has the latents and noise levels that the run reads."""
    own = model.autoencoder.latents_shape(trajectory.piece_count, size)
    if trajectory.latents.shape[1:] != own:
        raise InputError(
            f"the trajectory has latents of shape {tuple(trajectory.latents.shape[1:])}, and this "
            f"model's are {tuple(own)}; use the model that it was made with"
        )
    if not options.inverts:
        return
    if not trajectory.timesteps:
        raise InputError(
            "the trajectory was not inverted; give the start_from or the method that it was made "
            "with, or the clip in its place"
        )
    if trajectory.timesteps != model.schedule(options, size).timesteps:
        raise InputError(
            f"the {len(trajectory.timesteps)} timesteps of the trajectory are not the "
            f"{options.steps} of this run; use the steps and the model that it was made with"
        )


def _identity(model: Model, request: Edit, frames: KeptFrames, prompt: str) -> Identity:
    """Return what an inversion depends on; batch size and device only change its rounding."""
    options, image = request.options, request.control_image
    dtype = _storage(request).dtype(model.latent_dtype)
    controlled = options.control is not None or image is not None
    identity = {
        "source": frames.fingerprint,
        "size": f"{frames.size[0]}x{frames.size[1]}",
        "schedule": fingerprint.of_values(asdict(model.schedule(options, frames.size))),
        "inversion_prompt": prompt,
        "trajectory_precision": str(dtype).removeprefix("torch."),
        **model.identity(controlled=controlled),
        **options.identity(Lifetime.INVERSION),
    }
    if image is not None:
        identity["control_image"] = fingerprint_of(image)
    return identity
