"""`pnpvideo visualize`: pictures of what happens inside the model."""

from collections.abc import Sequence

from pnpvideo.commands.calls import WriteOptions, run_command
from pnpvideo.options.arguments import Parser
from pnpvideo.options.visualize import GROUPS, VisualizeSettings

INTRODUCTION = """\
Show what happens inside the model while it looks at a source or makes a result: features and
attention as colours, what each step expects, where frames match and where words look."""

_EXAMPLES = """\
examples:
  pnpvideo visualize drawing.png --beside photo.jpg -o features.png
  pnpvideo visualize clip.mp4 --layer 4 --at 0.5 -o features.mp4
  pnpvideo visualize cat.jpg --show attention --layer 4 --layer 7 -o attention.png
  pnpvideo visualize cat.jpg --show prediction --prompt "a stone cat" -o steps.png
  pnpvideo visualize clip.mp4 --show correspondence -o matches.mp4
  pnpvideo visualize cat.jpg --show words --prompt "a cat on a sofa" -o words.png

docs/inside.md tells what is seen."""


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    usage = "SOURCE -o OUT [OPTION ...]"
    parser = Parser("pnpvideo visualize", usage, INTRODUCTION, _EXAMPLES)
    run_command(parser, GROUPS, VisualizeSettings, arguments, _work)


def _work(settings: VisualizeSettings, call: WriteOptions) -> None:
    from pnpvideo.inside.visualize import visualize

    print(visualize(settings, overwrite=call.overwrite, quiet=call.quiet))
