"""Command lines whose options can also come from a TOML file."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.mpi import Usage, launched_rank, leave_after_rank_0

MOST_THREADS = 1024  # of a rank: more than a node has cores, since each thread takes memory


class Parser(argparse.ArgumentParser):
    """An argument parser that prints on rank 0 only and accepts ``--config FILE.toml``.

    Keys of the file are the long options (``batch-size`` or ``batch_size``); options on the
    command line override it.

    Args:
        prog: how the program is called. One that is called as a subcommand says so.
        config: whether there is ``--config``; not where there are no options that a file could set.
        kwargs: those of ``argparse.ArgumentParser``.
    """

    def __init__(self, prog: str, *, config: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Help)
        if prog.startswith("python ") and os.path.basename(sys.argv[0]) == "hpc-deepfake":
            prog = " ".join(["hpc-deepfake", *sys.argv[1:2]])
        super().__init__(prog, allow_abbrev=False, **kwargs)
        self.has_config = config
        if not config:
            return
        self.add_argument("--config", type=Path, metavar="FILE",
                          help="TOML file with values for any of these options; options on the "
                               "command line override it")

    def _print_message(self, message: str, file: Any = None) -> None:
        if launched_rank() == 0:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        leave = Usage(f"error: {message}\n(see {self.prog} --help)")
        if launched_rank() == 0:
            leave.tell()
        leave_after_rank_0(leave)

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Options of ``argv`` (default: the command line), over those of its ``--config`` file."""
        config_only = Parser(prog=self.prog, add_help=False)
        config = self.has_config and config_only.parse_known_args(argv)[0].config
        values: dict[str, Any] = {}
        if config:
            try:
                values = self._read(config)
            except InputError as error:
                self.error(str(error))
        with self.defaults(values):
            return self.parse_args(argv)

    @contextmanager
    def defaults(self, values: Mapping[str, Any]) -> Iterator[None]:
        """With other defaults of these options."""
        before = {name: self.get_default(name) for name in values}
        self.set_defaults(**values)
        try:
            yield
        finally:
            self.set_defaults(**before)

    def settable(self) -> dict[str, argparse.Action]:
        """The options that a file or a program may set, by their long names with underscores."""
        return {name.lstrip("-").replace("-", "_"): action for action in self._actions
                for name in action.option_strings if name.startswith("--")
                and action.dest not in ("help", "version", "config")
                and not _negates(action, name)}

    def checked(self, action: argparse.Action, text: str, where: str) -> Any:
        """The value that a text stands for, of an option with one.

        Raises:
            InputError: an impossible value; the message begins with ``where``.
        """
        try:
            value = self._get_value(action, text)
            self._check_value(action, value)
        except argparse.ArgumentError as error:
            raise InputError(f"{where}: {error.message}") from None
        return value

    def words(self, options: argparse.Namespace, without: Collection[str] = ()) -> list[str]:
        """A command line for options with at most one value each: those that would be others if
        they were left out.

        Args:
            options: from a parser like this one.
            without: names of options to leave out.
        """
        words: list[str] = []
        for _ in range(2):  # what the first words stand for may be the defaults of others
            parsed = vars(self.parse(words))
            for action in self._actions:
                name, value = action.dest, getattr(options, action.dest, None)
                if name in ("help", "config", *without) or value in (None, parsed.get(name)):
                    continue
                option = next(text for text in action.option_strings if text.startswith("--")
                              and _negates(action, text) == (value is False))
                words += [option] if action.nargs == 0 else [option, str(value)]
        return words

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the configuration {path}: {reason(error)}; name another "
                             "file with --config") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not valid TOML: {error}") from None
        actions = self.settable()
        values = {}
        for key, value in table.items():
            action = actions.get(key.replace("-", "_"))
            if action is None:
                valid = ", ".join(sorted(name.replace("_", "-") for name in actions))
                raise InputError(f"{path}: unknown option '{key}'; valid options: {valid}")
            values[action.dest] = self._value(action, value, f"{path}: {key}")
        return values

    def _value(self, action: argparse.Action, value: Any, where: str) -> Any:
        if action.nargs == 0:  # a switch
            if not isinstance(value, bool):
                raise InputError(f"{where} must be true or false, not {value!r}")
            return value
        many = isinstance(value, list)
        items = value if many else [value]
        if many != (action.nargs in ("+", "*")) or (action.nargs == "+" and not items):
            shape = "a list of one or more" if action.nargs in ("+", "*") else "one value"
            raise InputError(f"{where} must be {shape}, not {value!r}")
        kinds: tuple[type, ...] = (str, int, float)
        expected = "a string or a number"
        if action.type is Path:
            kinds, expected = (str,), "a string"
        elif getattr(action.type, "__name__", "") in ("int", "float", *_NUMBERS):
            kinds, expected = (int, float), "a number"
        for item in items:
            if not isinstance(item, kinds) or isinstance(item, bool):
                raise InputError(f"{where} must be {expected}, not {item!r}")
        values = [self.checked(action, str(item), where) for item in items]
        return values if many else values[0]


def _negates(action: argparse.Action, name: str) -> bool:
    """Whether a name stands for a switch's value False."""
    return isinstance(action, argparse.BooleanOptionalAction) and name.startswith("--no-")


_NUMBERS = ("whole number", "number")  # names of the types from at_least() and between()


def is_whole(action: argparse.Action) -> bool:
    """Whether the values of an option are whole numbers."""
    return getattr(action.type, "__name__", "") == _NUMBERS[0]


def is_number(action: argparse.Action) -> bool:
    """Whether the values of an option are numbers."""
    return getattr(action.type, "__name__", "") in _NUMBERS


def add_deterministic(group: Any) -> None:
    """Add ``--deterministic`` and ``--no-deterministic`` to a parser or a group of its options."""
    group.add_argument("--deterministic", action=argparse.BooleanOptionalAction, default=True,
                       help="on a GPU, only use operations that give the same bits in each run; "
                            "--no-deterministic also allows faster ones. On CPUs they always are")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Leaves text of several lines as written, such as an epilog, and shows defaults."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        hidden = any(action.default is value for value in (None, False, argparse.SUPPRESS))
        if action.option_strings and not hidden and "%(default)" not in text:
            default = " ".join(map(str, action.default)).replace("%", "%%") \
                if isinstance(action.default, list) else "%(default)s"
            text += f" (default: {default})"
        return text


def at_least(minimum: int, at_most: int = 2**31 - 1) -> Any:
    """Argument type: an integer from ``minimum`` to ``at_most``, by default the largest that all
    libraries accept."""

    def whole(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, not {value}")
        if value > at_most:
            raise argparse.ArgumentTypeError(f"must be at most {at_most}, not {value}")
        return value

    whole.__name__ = _NUMBERS[0]
    return whole


def between(low: float, high: float) -> Any:
    """Argument type: a number from ``low`` to ``high``."""

    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g}, not {value:g}")
        return value

    number.__name__ = _NUMBERS[1]
    return number


def above(low: float, high: float) -> Any:
    """Argument type: a number greater than ``low``, and at most ``high``."""

    def number(text: str) -> float:
        value = float(text)
        if not low < value <= high:
            raise argparse.ArgumentTypeError(f"must be above {low:g} and at most {high:g}, not "
                                             f"{value:g}")
        return value

    number.__name__ = _NUMBERS[1]
    return number


def seed() -> Any:
    """Argument type: a seed of random numbers."""
    return at_least(0, 2**32 - 1)  # NumPy's bound, which Keras takes over


def thresholds(text: str) -> tuple[float | None, float]:
    """Argument type: ``P``, or ``LOW,HIGH``, between which pictures are undecided. Returns the
    lower threshold, None if there is none, and the threshold."""
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not 0 <= numbers[0] <= numbers[-1] <= 1:
        raise argparse.ArgumentTypeError("must be a number from 0 to 1, or LOW,HIGH with LOW up to "
                                         f"HIGH, not {text}")
    return numbers[0] if len(numbers) == 2 else None, numbers[-1]


def add_calibration(cli: argparse._ActionsContainer) -> None:
    """``--calibration``."""
    cli.add_argument("--calibration", choices=("stored", "off"), default="stored",
                     help="stored: probabilities with the model's temperature, which training "
                          "fitted on its validation part; off: as the network gives them")


def add_stall_limits(group: argparse._ActionsContainer) -> None:
    """Add the options of a program whose ranks wait for each other (see ``watchdog.limits``)."""
    group.add_argument("--stall-warning", type=between(0, 1e6), default=60.0, metavar="S",
                       help="name a rank after others have waited S seconds for it; 0: never")
    group.add_argument("--stall-limit", type=between(0, 1e6), default=600.0, metavar="S",
                       help="end the job after waiting S seconds for a rank; 0: never")


def default_data() -> Path:
    """Folder of pictures: ``$HPC_DEEPFAKE_DATA``, else ``data`` in the current directory."""
    return Path(os.environ.get("HPC_DEEPFAKE_DATA") or "data")
