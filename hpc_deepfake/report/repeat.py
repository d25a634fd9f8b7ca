"""Shell commands that repeat a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.report.collect import Content
from preprocessing.ela import SIZE
from preprocessing.split import AUTHOR

_REPLACED = ("--data", "--run")  # new values
_DROPPED = ("--resume",)


def commands(content: Content) -> list[str]:
    """Lines to paste into a shell in the clone's directory: source, data, training, figures."""
    records = content.records
    environment = records.environment
    lines = [*_source(environment.get("git")), *_preprocessing(content)]
    ranks = finite(records.summary.get("ranks")) or len(items(environment.get("ranks")))
    data = [] if records.data is None else ["--data", str(records.data)]
    again = f"{records.path}-again"
    launch = ["mpirun", "-np", f"{ranks:.0f}"] if ranks > 1 else []
    lines += ["# the training, into a new run directory",
              _join([*launch, "python", "-m", "hpc_deepfake.train", *data, "--run", again,
                          *_rest(arguments(items(environment.get("command"))))]),
              "# its figures and this page"]
    lines += [_join(["hpc-deepfake", "evaluate", "--model", again, *data, "--part",
                          part.name]) for part in content.parts]
    return [*lines, _join(["hpc-deepfake", "report", again])]


def _source(revision: object) -> list[str]:
    if not isinstance(revision, str):
        return ["# the revision of the source is unknown"]
    commit, _, changed = revision.partition("+")
    if changed:
        return [f"# the source was revision {commit} with changes that were not committed"]
    return [_join(["git", "checkout", commit])]


def _preprocessing(content: Content) -> list[str]:
    """The command that makes the data file; empty if unknown."""
    if content.header is None:
        return []
    made, attributes = content.records.made, content.header.attributes
    roots = dictionary(made.get("roots"))
    if set(roots) == {""}:
        source = ["--data", str(roots[""])]
    elif set(roots) == {"authentic", "tampered"}:
        source = [word for name in sorted(roots) for word in (f"--{name}", str(roots[name]))]
    else:
        return []
    ranks = finite(made.get("ranks")) or 1
    parameters = content.header.parameters
    if isinstance(made.get("manifest"), str):
        source += ["--manifest", made["manifest"]]
    again = {f"--{name}": value for name, value, usual in (
        ("reencode", parameters.reencode, None), ("size", parameters.size, SIZE),
        ("crop", parameters.crop, None), ("margin", parameters.margin, None)) if value != usual}
    changes = [str(change) for change in content.header.perturbations]
    by = {"--group-by": attributes["group_by"]} if "group_by" in attributes else {}
    split = {} if str(attributes.get("split")).startswith(AUTHOR) else {
        "--split": attributes.get("split"), "--split-by": attributes.get("split_by")}
    options = {"--quality": parameters.quality, **again, **by, **split,
               "--seed": attributes.get("seed")}
    launch = ["mpirun", "-np", f"{ranks:.0f}"] if ranks > 1 else []
    return ["# the data file", _join([
        *launch, "python", "-m", "preprocessing", *source, "--out", str(content.header.path),
        "--features", *map(str, content.header.features), *["--perturb"] * bool(changes), *changes,
        *(str(word) for pair in options.items() for word in pair)])]


def arguments(command: Sequence[object]) -> list[str]:
    """Arguments of a recorded ``sys.argv``, after the program or after ``hpc-deepfake train``."""
    words = [str(word) for word in command]
    return words[2:] if words[1:2] == ["train"] else words[1:]


def _rest(words: Sequence[str]) -> list[str]:
    """The words without the options that the repetition sets itself."""
    kept, skip = [], False
    for word in words:
        option, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif option in _REPLACED:
            skip = not equals
        elif option not in _DROPPED:
            kept.append(word)
    return kept


def _join(words: Sequence[object]) -> str:
    """The words as one shell line; invisible characters are quoted as in bash's ``$'…'``, so that
    they survive the page."""
    return " ".join(map(_quoted, map(str, words)))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    try:
        raw = word.encode("utf-8", "surrogateescape")  # bytes of a name that is not UTF-8
    except UnicodeEncodeError:
        raw = word.encode("utf-8", "backslashreplace")
    return "$'" + "".join(chr(byte) if 32 <= byte < 127 and byte not in b"\\'"
                          else f"\\x{byte:02x}" for byte in raw) + "'"
