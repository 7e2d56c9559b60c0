"""`pnpvideo visualize`: pictures of what happens inside the model."""

from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import WriteOptions
from pnpvideo.commands.printing import say
from pnpvideo.importing import without_collection
from pnpvideo.options.visualize import GROUPS, VisualizeSettings

_INTRODUCTION = """\
Show what happens inside the model while it reads a source or makes a result: features and attention
as colours, the picture predicted at each step, matches between frames, and attention to words."""

_EXAMPLES = """\
examples:
  pnpvideo visualize drawing.png --beside photo.jpg -o features.png
  pnpvideo visualize clip.mp4 --layer 4 --at 0.5 -o features.mp4
  pnpvideo visualize fox.jpg --show attention --layer 4 --layer 7 -o attention.png
  pnpvideo visualize fox.jpg --show prediction --prompt "a marble fox" -o steps.png
  pnpvideo visualize clip.mp4 --show correspondence -o matches.mp4
  pnpvideo visualize fox.jpg --show words --prompt "a fox in a room" -o words.png

docs/inside.md explains the pictures."""


def _work(settings: VisualizeSettings, call: WriteOptions) -> None:
    with without_collection(freeze=True):
        from pnpvideo.inside.visualize import visualize

    say(visualize(settings, overwrite=call.overwrite, quiet=call.quiet))


COMMAND = Command(
    name="visualize",
    summary="show what happens inside the model",
    usage="SOURCE -o OUT [OPTION ...]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=WriteOptions,
    read=lambda given, _: VisualizeSettings.of(given),
    sources=lambda settings: (settings.source, *settings.beside),
    work=_work,
)
