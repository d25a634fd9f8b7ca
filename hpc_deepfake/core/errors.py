"""The one error a user can mend."""

EXIT_USAGE = 2


class InputError(Exception):
    """Wrong usage or input: the message says what, where and what to do next; exit code 2.

    ``everywhere`` is True when all ranks raise the same error at the same point, so that
    they may leave in an orderly way and rank 0 alone speaks.
    """

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere
