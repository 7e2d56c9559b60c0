"""`pnpvideo batch`: many runs, by one worker or many."""

import logging

from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import WriteOptions
from pnpvideo.commands.printing import say
from pnpvideo.errors import RunError
from pnpvideo.importing import without_collection
from pnpvideo.options.batch import GROUPS, BatchOptions
from pnpvideo.options.paths import expanded

_INTRODUCTION = """\
Make many translations with a model that is loaded once. A job is the settings of a run: a line of
jobs.jsonl or jobs.csv, or a clip in a folder. Jobs with the same source share its inversion. The
same command resumes where it was stopped, and makes what is missing or has failed."""

_EXAMPLES = """\
examples:
  pnpvideo batch clips/ --prompt "a 3D render of a bronze horse" -o results
  pnpvideo batch clips/ --prompt "a marble fox" --prompt "a jade fox" --combine product -o results
  pnpvideo batch jobs.jsonl --model sd15 --workers 4 -o results
  pnpvideo batch jobs.csv -o results --dry-run
  pnpvideo batch jobs.jsonl --ray auto -o /shared/results

A line of jobs.jsonl: {"source": "fox.mp4", "prompt": "a marble fox", "seed": 2, "output": "a.mp4"}
The first line of jobs.csv names its columns: source,prompt,seed,output
A line of jobs.yaml: fox.mp4: a marble fox
All settings of translate can be given there; those given here apply to jobs without them.
docs/batches.md has more. Exit code 0 only if all jobs are done."""

_log = logging.getLogger(__name__)

Work = tuple[BatchOptions, dict[str, object]]
"""The options of the batch, and the settings of all its runs."""


def _read(given: dict[str, object], _: WriteOptions) -> Work:
    own = {name: given.pop(name) for name in BatchOptions.model_fields if name in given}
    return BatchOptions.of(own), given


def _work(settings: Work, call: WriteOptions) -> None:
    with without_collection(freeze=True):
        from pnpvideo.batch.dry_run import describe_plan
        from pnpvideo.batch.job import cannot_be_made
        from pnpvideo.batch.resumed import resumed_text
        from pnpvideo.batch.run_batch import plan_batch, run_batch

    options, common = settings
    plan = plan_batch(options, common, overwrite=call.overwrite)
    if options.dry_run:
        for line in describe_plan(plan, options):
            say(line)
        if plan.skipped and not (options.skip_broken and plan.jobs):
            raise cannot_be_made(plan.skipped, listed=True, some_left=bool(plan.jobs))
        return
    if not plan.todo:
        count = len(plan.jobs)
        _log.info(
            "%s", "the job is done already" if count == 1 else f"all {count} are done already"
        )
    elif text := resumed_text(plan):
        _log.info("%s", text)
    batch = run_batch(plan, options, quiet=call.quiet)
    say(f"{batch.manifest} lists all jobs, with their results and errors")
    # What is wrong with each has been logged.
    if batch.missing:
        count, (job, _) = len(batch.missing), batch.missing[0]
        such_as = "is not done:" if count == 1 else "are not done, such as"
        raise RunError(f"{count} of {len(batch.jobs)} jobs {such_as} {job.shown}")
    if plan.skipped:
        count = len(plan.skipped)
        raise RunError(f"{count} broken {'job was' if count == 1 else 'jobs were'} left out")


def _when_stopped(settings: Work, _: WriteOptions) -> str:
    if settings[0].dry_run:
        return "a dry run makes no results"
    return "results that are done and finished steps are kept: run the same command to go on"


COMMAND = Command(
    name="batch",
    summary="translate many clips, one after another or at once",
    usage="JOBS -o DIR [--prompt TEXT ...] [OPTION ...]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=WriteOptions,
    read=_read,
    sources=lambda settings: (str(expanded(settings[0].jobs)),),
    work=_work,
    when_stopped=_when_stopped,
)
