"""`pnpvideo grid`: which thresholds suit a source."""

from collections.abc import Sequence

from pnpvideo.commands.calls import WriteOptions, run_command
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

docs/inside.md tells what is measured."""


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    usage = "SOURCE --prompt TEXT -o DIR [OPTION ...]"
    parser = Parser("pnpvideo grid", usage, INTRODUCTION, _EXAMPLES)
    run_command(parser, GROUPS, GridSettings, arguments, _work)


def _work(settings: GridSettings, call: WriteOptions) -> None:
    from pnpvideo.evaluation.grid import run_grid

    found = run_grid(settings, overwrite=call.overwrite, quiet=call.quiet)
    for point in found.points:
        mark = "  *" if point.best else ""
        print(
            f"{point.cell.name}: structure {1e3 * point.structure:.2f}, "
            f"text {1e2 * point.text:.2f}{mark}"
        )
    for path in (*found.sheets, found.plot, found.table):
        print(path)
