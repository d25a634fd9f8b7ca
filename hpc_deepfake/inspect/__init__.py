"""``hpc-deepfake inspect``: a page about each picture, for a person to look at."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake import predict
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.files import write_text
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.progress import Line
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import plural, printable
from preprocessing.leftout import LeftOut
from preprocessing.picture import Rejected, read

if TYPE_CHECKING:
    from hpc_deepfake.inspect.index import Entry
    from hpc_deepfake.predict import Model

INDEX = "index.html"
_PROGRAM = "hpc-deepfake inspect"
_LONGEST = 120  # characters of a page's name
_MOST = 200  # its bytes: file systems take 255, and a number and an ending follow
_DRAWN = "mostly drawn, so that little can be told"
_SIDE = 480  # of the pictures in the list, pixels
_VIDEO = "a video, of which only predict reads the frames: save a frame as a picture to inspect it"
_EXAMPLES = """examples:
  hpc-deepfake inspect photo.jpg                          writes inspect/photo.jpg.html
  hpc-deepfake inspect --out pages 'scans/*.jpg' holiday/
  hpc-deepfake inspect --model runs/first photo.jpg

exit codes: 0 done; 2 invalid options, or some pictures could not be read (all others are done)"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog=_PROGRAM, epilog=_EXAMPLES, description=(
        "Write a page for the browser about each picture: error levels, what the file says,\n"
        "traces of double compression, JPEG ghosts, copy-move candidates, noise. Each page is\n"
        "one file that needs no other."))
    cli.add_argument("pictures", nargs="+", metavar="PICTURE",
                     help="pictures, folders of them, or patterns; - reads a list of paths from "
                          "standard input, one per line or NUL-separated")
    cli.add_argument("--model", type=Path, metavar="RUN",
                     help="add the verdict of a trained model: its run directory or .keras file "
                          "(needs TensorFlow)")
    cli.add_argument("--out", type=Path, metavar="DIR", default=Path("inspect"),
                     help="folder of the pages; those of the same names are replaced")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    options = parser().parse(argv)
    work_matters()
    left = LeftOut()
    paths = predict.inputs.find(options.pictures, left=left, command=_PROGRAM)
    for note in left.notes():
        log.info("note: %s", note)
    if not paths:
        raise InputError(predict.inputs.none(options.pictures))
    _make_folder(options.out)
    model = None
    if options.model is not None:
        from hpc_deepfake.inspect import verdict

        model = verdict.load(options.model)
    entries: list[Entry] = []
    names = _names(paths)
    line = Line(len(paths) > 1)
    for done, (path, name) in enumerate(zip(paths, names, strict=True)):
        if line.due() and done:
            line.show(f"{done:,} of {len(paths):,} pictures")
        entry = _one(path, options.out / name, model)
        line.clear()
        if entry.page:
            print(options.out / name, flush=True)
        else:
            log.warning("%s: %s", entry.name, entry.words[0])
        entries.append(entry)
    bad = sum(not entry.page for entry in entries)
    if len(paths) > 1:
        from hpc_deepfake.inspect.index import index

        write_text(options.out / INDEX, index(entries))
        print(options.out / INDEX)
    log.info("%s inspected%s", plural(len(paths) - bad, "picture"),
             f", {bad:,} could not be read" if bad else "")
    return EXIT_USAGE if bad else 0


def _one(path: bytes, page: Path, model: Model | None) -> Entry:
    """Write the page of one picture; its entry in the list says why if that can't be done."""
    from hpc_deepfake.inspect import verdict, view
    from hpc_deepfake.inspect.analysis import analyse
    from hpc_deepfake.inspect.document import document
    from hpc_deepfake.inspect.findings import findings
    from hpc_deepfake.inspect.index import Entry

    name = printable(os.fsdecode(path).encode(errors="backslashreplace").decode())
    try:
        if predict.inputs.is_video(path):
            raise Rejected(_VIDEO)
        data = read(path)
        analysis = analyse(data, path)
        said = verdict.of(model, data) if model is not None else None
    except Rejected as reason:
        with suppress(OSError):  # of an earlier version of the picture
            page.unlink(missing_ok=True)
        return Entry(name, "", b"", [str(reason)])
    write_text(page, document(name, analysis, said, hashlib.sha256(data).hexdigest()))
    small = view.turn(view.reduced(analysis.pixels, _SIDE), analysis.said.orientation)
    words = [finding.short for finding in findings(analysis, said)]
    return Entry(name, page.name, view.jpeg(small, 85),
                 words + [_DRAWN] * analysis.drawn.mostly, said.verdict if said else "")


def _names(paths: Sequence[bytes]) -> list[str]:
    """A file name for each page: the picture's own, of which letters and digits of any script stay,
    with a number where two are alike, so that none leads out of the folder."""
    taken = {INDEX}
    names = []
    for path in paths:
        safe = _safe(os.path.basename(path))
        name, number = f"{safe}.html", 1
        while name.casefold() in taken:  # also on file systems that don't tell cases apart
            number += 1
            name = f"{safe}-{number}.html"
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe(own: bytes) -> str:
    """A file's name with an underscore for each character that isn't a letter, a digit or a mark
    on one; its end, where it is too long."""
    name = unicodedata.normalize("NFC", own.decode("utf-8", "replace"))
    name = "".join(character if character in "._-" or _readable(character) else "_"
                   for character in name)[-_LONGEST:]
    while len(name.encode()) > _MOST:
        name = name[1:]
    while name and (name[0] in ".-" or unicodedata.category(name[0])[0] == "M"):
        name = name[1:]
    return name or "picture"


def _readable(character: str) -> bool:
    """Whether it is a letter, digit or mark that the file system's encoding has."""
    try:
        return unicodedata.category(character)[0] in "LMN" and bool(os.fsencode(character))
    except UnicodeEncodeError:
        return False


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create --out {folder}: {error.strerror}; choose another folder"
                         ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to --out {folder}; choose another folder")
