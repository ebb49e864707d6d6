"""Starts the parts of the local stack as a stage, and stops them at the end."""

import sys

from compose.local import assets, ports, stack
from services.cli.addresses import settings
from services.cli.demo.board import Board, DemoFailed
from services.cli.demo.wait import Watch
from services.cli.errors import ConsoleError
from services.cli.health import dead_letters


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
