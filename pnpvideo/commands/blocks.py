"""`pnpvideo blocks`: which blocks of a transformer to inject into."""

from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import WriteOptions
from pnpvideo.commands.printing import say
from pnpvideo.errors import needs
from pnpvideo.importing import without_collection
from pnpvideo.options.blocks import GROUPS, BlocksSettings

_INTRODUCTION = """\
Inject into one block of a transformer at a time, or skip it, and measure how much that changes. The
blocks that change most are a table for models that have no published one."""

_EXAMPLES = """\
examples:
  pnpvideo blocks flux2-klein -o measured
  pnpvideo blocks models/z-image fox.jpg tea.jpg --prompt "a jade statue" --steps 12 -o measured
  pnpvideo blocks models/z-image --kinds v --top 4 --write -o measured
  pnpvideo blocks models/z-image --skip -o skipped

docs/which-model.md describes the measures and the table."""


def _work(settings: BlocksSettings, call: WriteOptions) -> None:
    with without_collection(freeze=True):
        from pnpvideo.grid.blocks import measure_blocks

    with needs("eval", "measuring with networks"):
        found = measure_blocks(settings, overwrite=call.overwrite, quiet=call.quiet)
    for block in found.blocks:
        mark = "  *" if block.best else ""
        measures = f"structure {1e3 * block.structure:.4g}, text {1e2 * block.text:.4g}"
        say(f"{block.name}: {measures}{mark}")
    for path in found.files:
        say(path)


COMMAND = Command(
    name="blocks",
    summary="measure which blocks of a transformer to inject into",
    usage="MODEL [PICTURE ...] -o DIR [OPTION ...]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=WriteOptions,
    read=lambda given, _: BlocksSettings.of(given),
    sources=lambda settings: settings.pictures,
    work=_work,
    when_stopped=lambda _settings, _call: (
        "the blocks that are measured are kept: run the same command to go on"
    ),
)
