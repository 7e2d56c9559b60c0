"""`pnpvideo evaluate`: a benchmark's row for a model and settings."""

from collections.abc import Sequence

from pnpvideo.commands.calls import read_call, told
from pnpvideo.commands.notices import NoticeOptions
from pnpvideo.errors import InputError
from pnpvideo.options.arguments import Parser
from pnpvideo.options.evaluation import GROUPS, EvaluationSettings

INTRODUCTION = """\
Make and measure a benchmark's results with a model, and write its table and a page to look at.
Nothing that is done is done again: the same command goes on, and several at once share the work."""

_EXAMPLES = """\
examples:
  pnpvideo evaluate pie-bench PIE-Bench_v1 --model ./stable-diffusion -o pie
  pnpvideo evaluate pie-bench PIE-Bench_v1 --model ./stable-diffusion -o pie --structure official \\
      --network lpips-squeeze=squeezenet.safetensors --method p2p=output/directinversion+p2p
  pnpvideo evaluate manifest edits.csv --model ./stable-diffusion -o edits --limit 20

docs/evaluation.md tells the formats, the networks and what is measured."""


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    parser = Parser(
        "pnpvideo evaluate", "BENCHMARK DATA -o DIR [OPTION ...]", INTRODUCTION, _EXAMPLES
    )
    call, given = read_call(parser, GROUPS, NoticeOptions, arguments)
    settings = EvaluationSettings.of(given)
    with told(call, arguments):
        try:
            from pnpvideo.evaluation.evaluate import evaluate
        except ModuleNotFoundError as error:
            raise InputError(
                f"evaluate needs {error.name}; install it with: pip install 'pnpvideo[eval]'"
            ) from None
        found = evaluate(settings, quiet=call.quiet)
    print(found.summary.table)
    for path in (*found.tables, found.page):
        print(path)
