"""The errors that a user can fix."""

EXIT_USAGE = 2
EXIT_DIVERGED = 3


class InputError(Exception):
    """Wrong usage or input: the message says what, where and what to do next; exit code 2.

    Args:
        message: what is wrong.
        everywhere: all ranks raise the same error at the same point, so that they can exit in an
            orderly way, and only rank 0 prints it.

    Attributes:
        code: exit code of the program that it ends.
    """

    code = EXIT_USAGE

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Diverged(InputError):
    """A training whose numbers are no longer finite; all ranks raise it at the same point. Exit
    code 3: other options are needed, so that starting it again would not help."""

    code = EXIT_DIVERGED

    def __init__(self, message: str) -> None:
        super().__init__(message, everywhere=True)
