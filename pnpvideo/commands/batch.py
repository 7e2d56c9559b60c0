"""`pnpvideo batch`: many runs, by one worker or many."""

import logging
from collections.abc import Sequence

from pnpvideo.commands.calls import WriteOptions, read_call, told
from pnpvideo.errors import RunError
from pnpvideo.options.arguments import Parser
from pnpvideo.options.batch import GROUPS, BatchOptions

INTRODUCTION = """\
Make many translations with a model that is loaded once. A job is the settings of a run: a line of
jobs.jsonl or jobs.csv, or a clip in a folder. Jobs of one source share its inversion. The same
command goes on where it was stopped, and makes what is missing or has failed."""

_EXAMPLES = """\
examples:
  pnpvideo batch clips/ --prompt "a bronze statue dancing" -o results
  pnpvideo batch clips/ --prompt "a stone cat" --prompt "a jade cat" --combine product -o results
  pnpvideo batch jobs.jsonl --model ./stable-diffusion --workers 4 -o results
  pnpvideo batch jobs.csv -o results --dry-run
  pnpvideo batch jobs.jsonl --ray auto -o /shared/results

A line of jobs.jsonl: {"source": "cat.mp4", "prompt": "a stone cat", "seed": 2, "output": "a.mp4"}
The first line of jobs.csv names its columns: source,prompt,seed,output
All settings of translate can stand there; those given here are for jobs without them.
docs/batches.md tells more. Exit code 0 only if all jobs are done."""

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    usage = "JOBS -o DIR [--prompt TEXT ...] [OPTION ...]"
    parser = Parser("pnpvideo batch", usage, INTRODUCTION, _EXAMPLES)
    call, given = read_call(parser, GROUPS, WriteOptions, arguments)
    own = {name: given.pop(name) for name in BatchOptions.model_fields if name in given}
    options = BatchOptions.of(own)
    with told(call, arguments):
        _work(options, given, call)


def _work(options: BatchOptions, common: dict[str, object], call: WriteOptions) -> None:
    from pnpvideo.batch.dry_run import describe_plan
    from pnpvideo.batch.run_batch import plan_batch, run_batch

    plan = plan_batch(options, common, overwrite=call.overwrite)
    if options.dry_run:
        for line in describe_plan(plan, options):
            print(line)
        return
    batch = run_batch(plan, options, quiet=call.quiet)
    print(batch.manifest)
    if batch.missing:
        job, record = batch.missing[0]
        raise RunError(
            f"{len(batch.missing)} of {len(batch.jobs)} jobs are not done, such as {job.name} "
            f"({record.error}); {batch.manifest} tells all"
        )
