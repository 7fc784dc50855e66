"""What went wrong, in the words of the person who typed the command."""


class Problem(Exception):
    """The work cannot go on: one line that says what was needed, what came, and what to do."""

    exit_code = 1


class WrongUsage(Problem, ValueError):
    """An argument cannot be what it is: nothing was started."""

    exit_code = 2


class NothingToDo(Problem):
    """The work asked for is already done."""

    exit_code = 3


class Stopped(Problem):
    """A signal ended the run after everything was saved."""

    def __init__(self, message, signal_number):
        super().__init__(message)
        self.exit_code = 128 + signal_number
