"""The error that a user can fix."""

EXIT_USAGE = 2


class InputError(Exception):
    """Wrong usage or input: the message says what, where and what to do next; exit code 2.

    Args:
        message: what is wrong.
        everywhere: all ranks raise the same error at the same point, so that they can exit in an
            orderly way, and only rank 0 prints it.
    """

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere
