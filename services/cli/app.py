"""The command `noria`: which verbs there are, and how failures leave it. Knows nothing of what a verb does."""

import json
import sys

import typer

from services.cli.errors import ConsoleError
from services.cli.output import drop_stdout
from services.cli.verbs import (
    chat,
    compare,
    datasets,
    decisions,
    dlq,
    explain,
    feedback,
    gc,
    groups,
    ingest,
    jobs,
    keys,
    lineage,
    lists,
    outbox,
    parked,
    project,
    prompt,
    replay,
    report,
    review,
    stack,
    watch,
)

app = typer.Typer(
    name="noria",
    help="LLMOps as a stream: events in; fine-tuned, evaluated, governed, served language models out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(project.apply)
app.command()(ingest.ingest)
app.add_typer(datasets.app, name="datasets")
app.add_typer(jobs.runs, name="runs")
app.command()(jobs.evaluate)
app.command()(lists.models)
app.command()(lineage.lineage)
app.command()(compare.compare)
app.command()(explain.explain)
app.command()(report.report)
app.command()(decisions.promote)
app.command()(decisions.rollback)
app.command()(decisions.reject)
app.command()(decisions.retire)
app.command()(chat.chat)
app.command()(feedback.feedback)
app.add_typer(review.app, name="review")
app.command()(watch.watch)
app.command()(groups.groups)
app.command()(replay.replay)
app.command()(gc.gc)
app.add_typer(dlq.app, name="dlq")
app.add_typer(parked.app, name="parked")
app.add_typer(outbox.app, name="outbox")
app.add_typer(keys.app, name="keys")
app.add_typer(prompt.app, name="prompt")


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrongly called, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit status of a command line. With --json an error is a document on stdout as well."""
    as_json = "--json" in arguments
    try:
        return int(app(arguments, prog_name="noria", standalone_mode=False) or 0)
    except ConsoleError as error:
        _tell(error, as_json)
        return error.exit_code
    except typer.TyperException as error:
        _tell(ConsoleError("usage", error.format_message()), as_json)
        return error.exit_code
    except typer.Abort:
        return 130
    except BrokenPipeError:
        drop_stdout()
        return 1


def _tell(error: ConsoleError, as_json: bool) -> None:
    print(f"noria: {error.message}", file=sys.stderr)
    if as_json:
        print(json.dumps(error.document(), ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
