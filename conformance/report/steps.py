"""Long work that is not a run, as people see it: what is being done, how far it is, for how long, and how long still."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console, RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


class Steps:
    """One changing line on a terminal, where what is done stays above it; elsewhere a line a step."""

    def __init__(self, console: Console, total: int | None = None, what: str = "") -> None:
        """``total`` is how many steps there are, if that is known; ``what`` names them until the first one is reported."""
        self._console = console
        self._stack = ExitStack()
        self._total, self._done = total, 0
        self._last = ""
        self._what = what

    def __enter__(self) -> Steps:
        self._progress: Progress | None = None
        if self._console.is_terminal:
            counted = [TextColumn("{task.completed} of {task.total}"), TimeElapsedColumn(), TextColumn("left:")]
            columns = [*counted, TimeRemainingColumn()] if self._total else [TimeElapsedColumn()]
            description = TextColumn("{task.description}", markup=False)
            shown = Progress(SpinnerColumn(), description, *columns, console=self._console, transient=True)
            self._progress = self._stack.enter_context(shown)
            self._task = shown.add_task(self._what, total=self._total)
        return self

    def __exit__(self, *exception: object) -> None:
        self._settle()
        self._stack.close()

    def say(self, text: str) -> None:
        """Show the current step. On a terminal, messages with the same words before a colon replace each other."""
        if self._progress is None:
            self._console.print(text, style="dim", markup=False, soft_wrap=True)
            return
        if text.partition(":")[0] != self._last.partition(":")[0]:
            self._settle()
            if not self._total:
                self._progress.reset(self._task)
        self._last = text
        self._progress.update(self._task, description=text)

    def done(self, result: RenderableType) -> None:
        """One more of ``total`` is done; what came of it."""
        self._done += 1
        width = len(str(self._total))
        self._console.print(Text(f"[{self._done:{width}}/{self._total}]"), result)
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done)

    def _settle(self) -> None:
        """Print the last message so that it stays."""
        if self._progress is not None and self._last:
            self._console.print(self._last, style="dim", markup=False, soft_wrap=True)
        self._last = ""
