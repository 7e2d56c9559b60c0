"""The cost of a run, for progress bars and estimates."""

from dataclasses import dataclass

from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.schedule import step_at


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """The passes of one frame through the network in each stage of a run.

    source_stage: the name of the progress bar of the stage that inverts, or generates, the source.
    source: the passes of that stage. sampling: those of the stage "translating", for all results.
    """

    source_stage: str
    source: int
    sampling: int


def cost_of(options: PnPOptions, results: int, *, generated: bool) -> RunCost:
    """Return the cost of a run with this many results for each frame.

    At each step of sampling the source goes through the network once (those at which it is read at
    a fixed level count as one), and each result under its prompt and, with guidance, under its
    negative prompt. generated: whether the model generates the source, without a source of its own
    to read.
    """
    branches = 2 if options.is_guided else 1
    first = step_at(options.start_level, options.steps)
    own = options.steps - first
    if options.feature_level < 1:
        own = min(own, options.steps - step_at(options.feature_level, options.steps))
    sampling = own + (options.steps - first) * results * branches
    if generated:
        return RunCost(
            source_stage="generating the source", source=options.steps * branches, sampling=sampling
        )
    inverted = options.start_from == "inverted"
    source = options.inversion_step_count * options.inversion_iterations if inverted else 0
    return RunCost(source_stage="inverting", source=source, sampling=sampling)
