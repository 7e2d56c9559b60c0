"""The pictures that a ControlNet follows, and the checks that it can."""

from pnpvideo.clips.clip import Clip
from pnpvideo.errors import InputError
from pnpvideo.models.model import Control, Model
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import check_followed
from pnpvideo.sampling.schedule import first_steps
from pnpvideo.stages.source import Source


def check_control(
    model: Model, options: PnPOptions, image: Clip | None, *, generated: bool
) -> None:
    """Raise InputError if a ControlNet is missing or cannot follow what it is to follow.

    image: the control pictures. generated: the model makes the source itself.
    """
    if options.control is None and image is None:
        return
    check_followed(None, options.control, image)
    model.check_control()
    if generated:
        raise InputError(
            "a ControlNet cannot follow a source that the model makes; leave out control"
        )


def find_control(
    model: Model, source: Source, options: PnPOptions, *, batch_size: int
) -> Control | None:
    """Return what the ControlNet follows of a source; None if it has nothing to follow.

    The pictures are read or drawn once for a source.
    """
    if not source.is_controlled(options.control):
        return None
    first_without = first_steps(options.control_end, options.steps)
    return Control(
        pictures=source.control_pictures(options.control, batch_size).of,
        scale=options.control_scale,
        inactive_at_or_below=model.schedule(options, source.size).timestep_from(first_without),
    )
