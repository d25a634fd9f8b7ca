"""The files to predict, from what the user named: files, folders, patterns, a list on stdin."""

from __future__ import annotations

import glob
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural, printable
from preprocessing import kinds
from preprocessing.leftout import LeftOut
from preprocessing.listing.item import some
from preprocessing.names import VIDEOS

STDIN = "-"
RATES = (0.001, 1000)  # of frames per second
_PREDICT = "hpc-deepfake predict --model RUN"
_MASK = ("a ground-truth mask by its name and content: name the file itself if it is a picture to "
         "be judged")
_FOR_VIDEOS = ("frames", "frame_rate", "plot_dir")
_FOR_PICTURES = ("ela_dir", "explain_dir")


def is_video(path: bytes) -> bool:
    """Whether the name is that of a video."""
    return path.lower().endswith(VIDEOS)


def find(words: Sequence[str], stdin: BinaryIO | None = None,
         left: LeftOut | None = None, command: str = _PREDICT) -> list[bytes]:
    """Files in the order in which they are named; of folders all pictures and videos below, sorted.

    A word is an existing file or folder, or else a pattern such as ``'*/photo?.jpg'`` (``**`` for
    any depth), or ``-``: a list on standard input, with one path per line, or with each path ended
    by a NUL character as ``find -print0`` writes it, for names that contain line ends.

    A missing file or an unreadable folder is kept in the list if it came from standard input or
    from within a folder: reading it gives the reason, and all others are processed.

    Args:
        words: from the command line.
        stdin: standard input; that of this process by default.
        left: gets the files in folders that are left out.
        command: how the program is called, for messages.

    Raises:
        InputError: a word matches nothing, or standard input has no list of paths.
    """
    left = LeftOut() if left is None else left
    paths: list[bytes] = []
    named: list[bytes] = []
    empty: list[bytes] = []  # folders
    for word in words:
        if word == STDIN:
            matches = listed(_stdin() if stdin is None else stdin, command)
        elif os.path.lexists(word):
            matches = [os.fsencode(word)]
        else:
            matches = sorted(map(os.fsencode, glob.iglob(word, recursive=True)))
            if not matches:
                raise InputError(f"no picture or folder matches the pattern '{word}'"
                                 if glob.has_magic(word)
                                 else f"there is no picture or folder '{word}'")
        named += (path for path in matches if not os.path.isdir(path))
        for path in matches:
            before, out = len(paths), (len(left.named), left.beside.total())
            paths += files(path, left)
            if len(paths) == before and (len(left.named), left.beside.total()) == out:
                empty.append(path)
    if empty and paths:  # without paths it is an error
        left.remarks.append(f"no pictures in {some(empty)}")
    likely = _masks({path: path for path in named})
    if likely:
        left.remarks.append(f"{plural(len(likely), 'file')} named that "
                            f"{'is a ground-truth mask' if len(likely) == 1 else 'are masks'} by "
                            f"name and content, of which a verdict means nothing: {some(likely)}")
    return paths


def none(words: Sequence[str]) -> str:
    """What to say where ``find`` finds nothing."""
    places = ", ".join("the list on standard input" if word == STDIN else printable(word)
                       for word in words)
    return (f"no pictures in {places}: name the files, or a folder that has some, at any "
            f"depth. {kinds.wanted()}")


def files(path: bytes, left: LeftOut) -> Iterable[bytes]:
    """All pictures and videos below a folder, sorted; any other path is kept as it is."""
    return _below(path, left) if os.path.isdir(path) else [path]


def _stdin() -> BinaryIO | None:
    """Standard input as bytes; None if it is closed."""
    return getattr(sys.stdin, "buffer", None)


def listed(stdin: BinaryIO | None, command: str = _PREDICT) -> list[bytes]:
    """Paths of a list: NUL-separated if it contains a NUL, else one per line.

    Raises:
        InputError: standard input is closed, or is a file's content instead of a list.
    """
    if stdin is None:
        raise InputError("- reads a list of paths from standard input, which is closed: give it "
                         f"one, such as find folder -name '*.jpg' -print0 | {command} -")
    start = stdin.read(kinds.START).removeprefix(b"\xef\xbb\xbf")  # a byte order mark
    _require_list(start, command)
    data = start + stdin.read()
    if b"\0" in data:
        return [path for path in data.split(b"\0") if path]
    return [path for path in (line.removesuffix(b"\r") for line in data.split(b"\n")) if path]


def _require_list(start: bytes, command: str) -> None:
    """Raise InputError if these are the first bytes of a picture or another file."""
    kind = kinds.of_content(start)
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    first = start.partition(b"\0")[0].partition(b"\n")[0]
    if not (kind or utf16) or (first and os.path.lexists(first)):
        return
    wanted = "- reads a list of paths from standard input, one per line or NUL-separated, "
    if kind is None:
        raise InputError(f"{wanted}in UTF-8, but this one is in UTF-16: convert it, such as with "
                         "iconv -f UTF-16 -t UTF-8")
    if kind.sort == kinds.OTHER:
        raise InputError(f"{wanted}but got something else; {kind.text}")
    raise InputError(f"{wanted}but got the bytes of a {kind.sort} ({kind.text}): name the file "
                     f"itself, {command} FILE")


def _below(folder: bytes, left: LeftOut) -> Iterator[bytes]:
    """Pictures and videos below a folder, sorted, without ground-truth masks, which preprocessing
    leaves out too; then the folders that can't be listed."""
    unreadable: list[bytes] = []
    found = list(_media(folder, left, unreadable))
    name = os.path.basename(os.path.abspath(folder))
    likely = set(_masks({name + b"/" + os.path.relpath(path, folder): path for path in found}))
    left.named += [(path, _MASK) for path in likely]
    yield from (path for path in found if path not in likely)
    yield from unreadable


def _masks(files: dict[bytes, bytes]) -> list[bytes]:
    from preprocessing.listing import masks

    return masks.likely(files)


def _media(folder: bytes, left: LeftOut, unreadable: list[bytes]) -> Iterator[bytes]:
    for parent, folders, files in os.walk(
            folder, onerror=lambda error: unreadable.append(os.fsencode(error.filename))):
        folders[:] = left.entered(folders)
        for name in sorted(files):
            path = os.path.join(parent, name)
            if not left.takes(path):
                yield path


def idle(options: Namespace, paths: Sequence[bytes]) -> list[str]:
    """What to say about options that have no effect on these files.

    Raises:
        InputError: such an option stands beside the names of files, all of the other kind: it can
            only be a mistake. Of a folder, a pattern, a list or with an option in a configuration
            file, it needs not be one.
    """
    videos = sum(map(is_video, paths))
    files_named = options.config is None and all(
        word != STDIN and os.path.lexists(word) and not os.path.isdir(word)
        for word in options.pictures)
    lines = []
    for names, kind, count, advice in (
            (_FOR_VIDEOS, "video", videos, "leave it out"),
            (_FOR_PICTURES, "picture", len(paths) - videos,
             "take its frames out first, such as with ffmpeg -i clip.mp4 frames/%05d.png")):
        for name in (name for name in names if getattr(options, name) is not None):
            option = f"--{name.replace('_', '-')}"
            if not count and files_named:
                raise InputError(f"{option} is for {kind}s, and no {kind} is named: {advice}")
            if not count:
                lines.append(f"{option} has no effect: no {kind} among "
                             f"{plural(len(paths), 'file')}")
            elif videos and kind == "picture":
                lines.append(f"{option} is for pictures: none of {plural(videos, 'video')}")
    return lines
