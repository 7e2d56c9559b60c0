"""One edit as a value: the source, the texts, the options and the resources."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image
from torch import Generator

from pnpvideo.clips.clip import Clip
from pnpvideo.models.model import Size
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, PnPOptions
from pnpvideo.pixels.mask import Area
from pnpvideo.stages.prompts import Texts
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An edit of one source to one or several prompts, which share its inversion."""

    # The source: exactly one of these two.
    source: Clip | Trajectory | None = None
    guidance_prompt: str | None = None
    """Lets the model generate a source of one piece from this text."""

    inversion_prompt: str = ""
    """Describes the source; '' as in the paper."""
    size: Size | None = None
    """The working size; by default the model's own area in the source's aspect ratio."""
    area: Area | None = None
    """The part that is edited; by default all."""
    control_image: Clip | None = None
    """Pictures for the ControlNet to follow, one for each frame of the source."""

    # The texts, or embeddings in their place.
    prompt: Texts | None = None
    negative_prompt: Texts | None = None
    """One for all prompts, or one for each; by default the empty text."""
    picture: Image.Image | None = None
    """A picture for an IP-Adapter to read in addition to the prompts."""

    # The method.
    options: PnPOptions
    results_per_prompt: int = 1
    generators: Sequence[Generator]
    """One that draws all noise, or one for each result. The first also draws for the source."""

    # The machine.
    batch_size: int = DEFAULT_BATCH_SIZE
    """Pieces in one pass of sampling; changes memory and time, not the result."""
    storage: Storage = field(default_factory=Storage)
    job: JobFolder | None = None
    """A folder for the trajectory and finished steps, from which the same edit can resume."""
    keep: Literal["read", "all"] = "read"
    """Which noise levels a trajectory on disk keeps: those read with these options, or all."""

    @property
    def mask_from_prompt(self) -> str | None:
        """The words that name the edited part; None if words do not choose it."""
        return None if self.area is None else self.area.named or None


def seeded(seed: int) -> tuple[Generator, ...]:
    """Return a new generator with this seed, as `Edit.generators`."""
    return (Generator().manual_seed(seed),)
