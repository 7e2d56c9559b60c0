"""`pnpvideo evaluate`: a benchmark's row for a model and settings."""

from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import NoticeOptions
from pnpvideo.commands.printing import say
from pnpvideo.errors import needs
from pnpvideo.importing import without_collection
from pnpvideo.options.evaluation import GROUPS, EvaluationSettings

_INTRODUCTION = """\
Make and measure a benchmark's results with a model, and write its table and a page to look at. The
same command resumes where it was stopped, and several at once share the work."""

_EXAMPLES = """\
examples:
  pnpvideo evaluate pie-bench PIE-Bench_v1 --model ./stable-diffusion -o pie
  pnpvideo evaluate pie-bench PIE-Bench_v1 --model ./stable-diffusion -o pie --structure official \\
      --network lpips-squeeze=squeezenet.safetensors --theirs p2p=output/directinversion+p2p
  pnpvideo evaluate manifest edits.csv --model ./stable-diffusion -o edits --limit 20

docs/evaluation.md describes the formats, the networks and the measures."""


def _work(settings: EvaluationSettings, call: NoticeOptions) -> None:
    with needs("eval", "evaluate"):
        with without_collection(freeze=True):
            from pnpvideo.evaluation.evaluate import evaluate
        found = evaluate(settings, quiet=call.quiet)
    say(found.summary.table)
    for path in (*found.tables, found.page):
        say(path)


COMMAND = Command(
    name="evaluate",
    summary="make and measure a benchmark's results",
    usage="BENCHMARK DATA -o DIR [OPTION ...]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=NoticeOptions,
    read=lambda given, _: EvaluationSettings.of(given),
    work=_work,
    when_stopped=lambda _settings, _call: (
        "the results that are done are kept: run the same command to go on"
    ),
)
