"""The cost of a run, for progress bars and estimates."""

from dataclasses import dataclass

from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.schedule import first_step, step_at
from pnpvideo.sampling.solvers import choose_solver
from pnpvideo.sampling.velocity_methods import METHODS


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
    solver = choose_solver(options.inversion_iterations, options.solver, exact=options.exact_source)
    steps = options.steps - first_step(options)
    if options.injects:
        own = steps
        if options.feature_level < 1:
            own = min(own, options.steps - step_at(options.feature_level, options.steps))
        # One step of midpoint has two passes, all of fireflow's have one more.
        sampling = (own + steps * results * branches) * solver.passes_back(steps) // max(steps, 1)
    else:
        sampling = steps * _asked(options, results)
    if generated:
        return RunCost(
            source_stage="generating the source", source=options.steps * branches, sampling=sampling
        )
    source = solver.passes(options.inversion_step_count) if options.inverts else 0
    return RunCost(source_stage="inverting", source=source, sampling=sampling)


def _asked(options: PnPOptions, results: int) -> int:
    """Return the passes of one frame in a step of a method that combines velocities."""
    count = 0
    for place, roles in METHODS[options.method].asks.items():
        each = len(roles) + (options.is_guided and "target" in roles)
        count += each if place == "q" else each * results
    return count + (options.method == "flowedit" and options.source_guidance != 1)
