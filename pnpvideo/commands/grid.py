"""`pnpvideo grid`: which thresholds suit a source."""

from collections.abc import Sequence

from pnpvideo.commands.calls import WriteOptions, run_command
from pnpvideo.errors import InputError
from pnpvideo.options.arguments import Parser
from pnpvideo.options.grid import GROUPS, GridSettings

INTRODUCTION = """\
Try values of options with one another on a source that is inverted once, and show on a contact
sheet and in a plot which of them keep its structure and follow the text."""

_EXAMPLES = """\
examples:
  pnpvideo grid cat.jpg --prompt "a stone cat" --grid tau_f=0.4,0.6,0.8 --grid tau_a=0.2,0.5 -o grid
  pnpvideo grid clip.mp4 --frames 8 --prompt "a photo of a moon" --steps 20 -o grid
  pnpvideo grid cat.jpg --prompt "a stone cat" --grid guidance_scale=5,7.5,15 -o grid
  pnpvideo grid PIE-Bench_v1 --benchmark pie-bench --limit 20 --network clip=clip/ -o grid

docs/inside.md tells what is measured."""


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    usage = "SOURCE --prompt TEXT -o DIR [OPTION ...]"
    parser = Parser("pnpvideo grid", usage, INTRODUCTION, _EXAMPLES)
    run_command(parser, GROUPS, GridSettings, arguments, _work)


def _work(settings: GridSettings, call: WriteOptions) -> None:
    from pnpvideo.grid.grid import run_grid

    try:
        edits = []
        if settings.benchmark is not None:
            from pnpvideo.grid.edits import read_edits

            edits = read_edits(settings)
        found = run_grid(settings, edits=edits, overwrite=call.overwrite, quiet=call.quiet)
    except ModuleNotFoundError as error:
        raise InputError(
            f"networks and benchmarks need {error.name}; install it with: "
            "pip install 'pnpvideo[eval]'"
        ) from None
    for point in found.points:
        mark = "  *" if point.best else ""
        print(
            f"{point.cell.name}: structure {1e3 * point.structure:.2f}, "
            f"text {1e2 * point.text:.2f}{mark}"
        )
    for path in (*found.sheets, found.plot, *found.tables):
        print(path)
