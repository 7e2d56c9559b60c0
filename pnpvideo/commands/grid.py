"""`pnpvideo grid`: which thresholds suit a source."""

from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import WriteOptions
from pnpvideo.commands.printing import say
from pnpvideo.errors import needs
from pnpvideo.importing import without_collection
from pnpvideo.options.grid import GROUPS, GridSettings

_INTRODUCTION = """\
Try combinations of option values on a source that is inverted once. A contact sheet and a plot show
which of them keep the source's structure and which follow the text."""

_EXAMPLES = """\
examples:
  pnpvideo grid fox.jpg --prompt "a jade fox" --grid tau_f=0.4,0.6,0.8 --grid tau_a=0.2,0.5 -o grid
  pnpvideo grid clip.mp4 --frames 8 --prompt "a 3D render of a fox" --steps 20 -o grid
  pnpvideo grid fox.jpg --prompt "a jade fox" --grid guidance_scale=5,7.5,15 -o grid
  pnpvideo grid PIE-Bench_v1 --benchmark pie-bench --limit 20 --network clip=clip/ -o grid

docs/inside.md describes the measures."""


def _work(settings: GridSettings, call: WriteOptions) -> None:
    with without_collection(freeze=True):
        from pnpvideo.grid.edits import read_edits
        from pnpvideo.grid.grid import run_grid

    with needs("eval", "a grid with networks or a benchmark"):
        edits = read_edits(settings)
        found = run_grid(settings, edits=edits, overwrite=call.overwrite, quiet=call.quiet)
    for point in found.points:
        mark = "  *" if point.best else ""
        say(
            f"{point.cell.name}: structure {1e3 * point.structure:.2f}, "
            f"text {1e2 * point.text:.2f}{mark}"
        )
    for path in (*found.sheets, found.plot, *found.tables):
        say(path)


COMMAND = Command(
    name="grid",
    summary="find the thresholds that suit a source",
    usage="SOURCE --prompt TEXT -o DIR [OPTION ...]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=WriteOptions,
    read=lambda given, _: GridSettings.of(given),
    sources=lambda settings: (settings.source,) if settings.benchmark is None else (),
    work=_work,
    when_stopped=lambda _settings, _call: (
        "the combinations that are done are kept: run the same command to go on"
    ),
)
