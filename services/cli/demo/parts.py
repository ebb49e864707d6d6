"""What the demo and the examples have around them: the stack's start as a stage, its stop, and how they end."""

import argparse
import sys
import time
from collections.abc import Callable

from compose.local import assets, ports, stack
from services.cli.addresses import settings
from services.cli.demo.board import Board, DemoFailed
from services.cli.demo.wait import Watch
from services.cli.errors import ConsoleError
from services.cli.health import dead_letters
from services.cli.yaml_file import FileInvalid


def carry_out(name: str, hello: str, options: argparse.Namespace, run: Callable[[Board, Watch], None]) -> int:
    """Runs what the command `name` is for; its exit status. `options` has `timeout` (seconds) and `stop`."""
    board = Board()
    try:
        where = settings()
        say(f"\n{hello} State lies under {where.home}\n")
        run(board, Watch(where, time.monotonic() + options.timeout))
        if not options.stop:
            say("The stack stays up; `.venv/bin/noria down` stops it.")
        return 0
    except (DemoFailed, ConsoleError, FileInvalid) as error:
        at = next((s.title for s in board.stages if s.state == "failed"), "start")
        print(f"\n{name} failed at {at}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was started goes on: `.venv/bin/noria down` stops it", file=sys.stderr)
        return 130
    finally:
        if options.stop:
            stop()


def start(board: Board, watch: Watch) -> None:
    """Starts the stack, or finds it running.

    Raises:
        DemoFailed: a part does not start, with the end of its log.
    """
    with board.stage("stack") as stage:
        ready: list[str] = []
        try:
            stack.start(watch.settings, stage.say)
            for name, took in stack.wait_ready(watch.settings):
                ready.append(f"{name} {took:.1f} s")
                stage.say("ready: " + ", ".join(ready), len(ready) / len(stack.PARTS))
            stage.say(f"{len(stack.PARTS)} parts ready: Kafka, Triton and {len(stack.PARTS) - 2} services")
        except (stack.StackError, ports.PortTaken, assets.AssetError) as error:
            raise DemoFailed(str(error)) from error
        watch.letters_before = dead_letters()


def stop() -> None:
    """Stops the stack; what goes wrong is said, and leaves the exit status as it is."""
    try:
        stack.stop(settings())
        say("The stack is stopped; `.venv/bin/noria up --detach` starts it again.")
    except (stack.StackError, ConsoleError) as error:
        print(f"the stack did not stop: {error}", file=sys.stderr)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)
