"""The Celery tasks: `trainmaster.run` opens a drain, `trainmaster.submit` takes a command.

The intake empties the queue of submissions itself; the task is what Celery's tools show of it,
and what takes a submission that someone sent to another queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.parsing import InvalidCommandError
from worker.queue.intake.envelope import SUBMIT_TASK, command_text, submitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery, Task

    from worker.queue.pool.supervisor import Supervisor

RUN_TASK = "trainmaster.run"


def register_tasks(app: Celery, supervisor: Callable[[], Supervisor]) -> None:
    """Registers both tasks with an app.

    Args:
        app: gets the tasks.
        supervisor: returns the supervisor of this process.
    """

    @app.task(name=RUN_TASK)
    def run(*_: Any, **__: Any) -> None:
        """Runs what is due for a time slice. The message carries nothing: the ledger knows.

        One of a newer version may carry something, and is a wake-up all the same.
        """
        supervisor().drain()

    @app.task(name=SUBMIT_TASK, bind=True)
    def submit(self: Task[..., None], *args: Any, **kwargs: Any) -> None:
        """Adds a command to the stream; the intake validates it, as it does every other command."""
        command: Any
        try:
            command = submitted(args, kwargs)
        except InvalidCommandError:
            # The intake rejects it, so that it is in the events and the dead letters.
            command = args[0] if len(args) == 1 and not kwargs else [args, kwargs]
        if isinstance(command, dict) and command.get("id") is None:
            # Celery may deliver a message twice; with its id the second one does nothing.
            command = {**command, "id": self.request.id}
        priority = command.get("priority") if isinstance(command, dict) else None
        supervisor().submit(command_text(command), priority)
