"""What a file is, by its name and its first bytes: a picture, a video, or what else."""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from preprocessing.names import PICTURES, VIDEOS, parse_path

PICTURE, VIDEO, BESIDE, OTHER = "picture", "video", "beside", "other"
START = 4096  # bytes of a file that its kind is told by


class Kind(NamedTuple):
    """What a file is.

    Attributes:
        sort: ``PICTURE`` or ``VIDEO``: one to be decoded; ``BESIDE``: a file that goes with
            pictures and that nobody misses, such as metadata; ``OTHER``: anything else.
        text: of the first two, the format, such as ``HEIC``; of ``BESIDE``, what to count it as,
            such as ``.xmp``; of ``OTHER``, what it is and what to do about it.
    """

    sort: str
    text: str


_PNG, _TIFF = "export it as PNG or TIFF", "convert it to PNG or TIFF"
_RAW = "a camera's raw picture{}: develop it to TIFF or PNG, such as with darktable or RawTherapee"
_NOT_READ = "a picture of a format that isn't read ({}): " + _TIFF
_UNFINISHED = "a download or copy that isn't complete ({}): finish it, or remove it"
_ARCHIVE = "{}: unpack it, and name what is in it"
_SOUND = "sound only ({}), without pictures: remove it"
_ENCRYPTED = "encrypted ({}): decrypt it first"
_VIDEO = "a video of a kind that isn't read ({}): copy its frames unchanged into another file, " \
         "such as with ffmpeg -i FILE -c copy NEW.mkv"
_DATA = "{}: export its pictures as PNG or TIFF"
_LFS = "a Git LFS pointer, not the file itself: run git lfs pull"
_ANNEX = "a git-annex pointer, not the file itself: run git annex get FILE"
ANNEX_LINK = "git-annex keeps its content elsewhere: run git annex get FILE"
_ICLOUD = "a placeholder of a file that is only in iCloud: download it there first"
_APPLE = "what macOS notes about a file (AppleDouble, ._NAME), not the file itself: name NAME"
_PDF = "a PDF document: take its pictures out unchanged, such as with pdfimages -all"
_SVG = "a drawing without pixels (SVG), which has no compression to look at: remove it"
_ICON = "an icon ({}), too small to be judged: remove it"
_HTML = "a web page (HTML), as a server sends instead of a file: download the file itself"
_PSD = "a Photoshop document (PSD): " + _PNG
EMPTY = "empty file: copy or download it again"
UNKNOWN = "not a picture or video of a known format"
_ERROR = "such as a server's error message: download the file again"
_ZEROS = "zero bytes only: a download or copy that isn't complete; repeat it"

MP4 = Kind(VIDEO, "MP4 or QuickTime")
AVIF = Kind(PICTURE, "AVIF")
HEIC = Kind(PICTURE, "HEIC")  # or AVIF, as some brands are common to both

# where, which bytes, and what it is
_SIGNS: tuple[tuple[int, bytes, Kind], ...] = tuple(
    (at, sign, Kind(sort, text)) for sort, signs in {
        PICTURE: (
            (0, b"\xff\xd8", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (0, b"GIF87a", "GIF"),
            (0, b"GIF89a", "GIF"), (8, b"WEBPVP8", "WebP"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
            (0, b"\0\0\0\x0cjP  ", "JPEG 2000"), (0, b"BM", "BMP"),
        ),
        VIDEO: (
            (8, b"AVI ", "AVI"), (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
            (0, b"\0\0\1\xba", "MPEG"), (0, b"\0\0\1\xb3", "MPEG"),
            *((4, box, "MP4 or QuickTime") for box in (b"moov", b"mdat", b"free", b"skip",
                                                       b"wide")),
        ),
        OTHER: (
            (0, b"II*\0\x10\0\0\0CR", _RAW.format(" (Canon CR2)")),
            (0, b"II\x1a\0\0\0HEAPCCDR", _RAW.format(" (Canon CRW)")),
            (0, b"FUJIFILMCCD-RAW", _RAW.format(" (Fujifilm RAF)")),
            (0, b"IIRO", _RAW.format(" (Olympus ORF)")),
            (0, b"IIRS", _RAW.format(" (Olympus ORF)")),
            (0, b"MMOR", _RAW.format(" (Olympus ORF)")),
            (0, b"IIU\0", _RAW.format(" (Panasonic RW2)")),
            (0, b"FOVb", _RAW.format(" (Sigma X3F)")), (0, b"\0MRM", _RAW.format(" (Minolta MRW)")),
            (0, b"8BPS", _PSD), (0, b"%PDF-", _PDF), (0, b"gimp xcf", "a GIMP document: " + _PNG),
            (0, b"%!PS", "a PostScript document: " + _PNG),
            (0, b"\xc5\xd0\xd3\xc6", "a PostScript document: " + _PNG),
            (0, b"\0\0\1\0", _ICON.format("ICO")), (0, b"\0\0\2\0", _ICON.format("CUR")),
            (0, b"icns", _ICON.format("ICNS")),
            *((0, sign, _NOT_READ.format(name)) for sign, name in (
                (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"II\xbc\1", "JPEG XR"),
                (b"qoif", "QOI"), (b"DDS ", "DDS"), (b"v/1\1", "OpenEXR"),
                (b"#?RADIANCE", "Radiance HDR"), (b"SIMPLE  =", "FITS"), (b"BPG\xfb", "BPG"),
                (b"FLIF", "FLIF"), (b"AT&TFORM", "DjVu"), (b"\x8aMNG", "MNG"), (b"\x8bJNG", "JNG"),
                (b"\xd7\xcd\xc6\x9a", "WMF"), (b"/* XPM */", "XPM"), (b"\x0a\5\1\x08", "PCX"))),
            (128, b"DICM", "a medical picture (DICOM): export it as PNG or TIFF, and mind that it "
                           "may hold a patient's name"),
            (0, b"PK\3\4", _ARCHIVE.format("a ZIP archive or an Office document")),
            (0, b"PK\5\6", _ARCHIVE.format("an empty ZIP archive")),
            (0, b"\x1f\x8b", _ARCHIVE.format("a gzip archive")),
            (0, b"BZh", _ARCHIVE.format("a bzip2 archive")),
            (0, b"\xfd7zXZ\0", _ARCHIVE.format("an xz archive")),
            (0, b"\x28\xb5\x2f\xfd", _ARCHIVE.format("a Zstandard archive")),
            (0, b"7z\xbc\xaf\x27\x1c", _ARCHIVE.format("a 7z archive")),
            (0, b"Rar!", _ARCHIVE.format("a RAR archive")),
            (257, b"ustar", _ARCHIVE.format("a tar archive")),
            (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _DATA.format("an old Office document")),
            (0, b"\x89HDF\r\n\x1a\n", _DATA.format("an HDF5 file")),
            (0, b"\x93NUMPY", _DATA.format("a NumPy array")),
            (0, b"MATLAB 5.0", _DATA.format("a MATLAB file")),
            (0, b"CDF\1", _DATA.format("a NetCDF file")), (0, b"GRIB", _DATA.format("a GRIB file")),
            (0, b"Salted__", _ENCRYPTED.format("OpenSSL")),
            (0, b"age-encryption.org/", _ENCRYPTED.format("age")),
            (0, b"-----BEGIN PGP MESSAGE", _ENCRYPTED.format("PGP")),
            (0, b"LUKS\xba\xbe", _ENCRYPTED.format("LUKS")),
            (0, b"\0\5\26\7", _APPLE), (0, b"\0\5\26\0", _APPLE),
            (0, b"bplist00", "settings of an Apple program: remove it"),
            (0, b"version https://git-lfs.github.com/spec/", _LFS), (0, b"/annex/objects/", _ANNEX),
            (0, b"ID3", _SOUND.format("MP3")), (0, b"fLaC", _SOUND.format("FLAC")),
            (8, b"WAVEfmt", _SOUND.format("WAV")), (0, b"#!AMR", _SOUND.format("AMR")),
            (0, b"MThd", _SOUND.format("MIDI")),
            (0, b"OggS", _VIDEO.format("Ogg")), (0, b"FLV\1", _VIDEO.format("Flash")),
            (0, b"0&\xb2u\x8ef\xcf\x11", _VIDEO.format("ASF, as of WMV files")),
            (0, b".RMF", _VIDEO.format("RealMedia")), (0, b"DKIF", _VIDEO.format("IVF")),
            (0, b"\0\0\0\1\x67", _VIDEO.format("H.264 without a container")),
            (0, b"\0\0\0\1\x40", _VIDEO.format("H.265 without a container")),
            *((0, sign, _SOUND.format("MPEG audio")) for sign in (
                b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9")),
            (0, b"\x7fELF", "a program: remove it"), (0, b"MZ", "a program: remove it"),
            (0, b"L\0\0\0\1\x14\2\0", "a shortcut of Windows: name the file it points to"),
            (0, b"[InternetShortcut]", "a link to a web page: download the picture itself"),
            (0, b"SQLite format 3", "a data base (SQLite): remove it"),
        ),
    }.items() for at, sign, text in signs)
_TIFF_SIGNS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# major brands (ISO/IEC 14496-12, 4.3) of files that are no video of the usual kind
_BRANDS = {b"avif": AVIF, b"avis": AVIF, **dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
    HEIC), b"crx ": Kind(OTHER, _RAW.format(" (Canon CR3)")), **dict.fromkeys(
    (b"M4A ", b"M4B ", b"M4P "), Kind(OTHER, _SOUND.format("MPEG-4 audio"))),
    b"jpm ": Kind(OTHER, _NOT_READ.format("JPM")), b"j2ki": Kind(OTHER, _NOT_READ.format("J2KI"))}
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[a-z!?]", re.IGNORECASE)
_TAGS = re.compile(rb"<(?:!doctype\s+)?(svg|html|head|body|script)[\s>]", re.IGNORECASE)
_BASE64 = re.compile(rb"\s*(?:data:[a-z]+/[a-z0-9.+-]+;base64,|/9j/[A-Za-z0-9+/]|iVBORw0KGgo)")

# endings that say for themselves what a file is; their content is not looked at
_UNFINISHED_ENDINGS = (b".part", b".partial", b".crdownload", b".download", b".opdownload",
                       b".filepart", b".!ut", b".!qb", b".aria2", b".dltmp", b".icloud")
_RAWS = {b".3fr", b".arw", b".cr2", b".cr3", b".crw", b".dcr", b".dng", b".erf", b".gpr", b".iiq",
         b".k25", b".kdc", b".mef", b".mos", b".mrw", b".nef", b".nrw", b".orf", b".pef", b".raf",
         b".raw", b".rw2", b".rwl", b".sr2", b".srf", b".srw", b".x3f"}
_UNSIGNED = (b".tga", b".pct", b".pict")  # formats whose files have no sign at their start
_BESIDE_NAMES = {b"thumbs.db", b"ehthumbs.db", b"desktop.ini", b"icon\r", b"readme", b"license",
                 b"licence", b"copying", b"makefile", b"checksums", b"md5sums", b"sha256sums"}
_BESIDE_ENDINGS = set(
    b".aac .aae .bak .bib .c .cfg .ckpt .conf .cpp .css .csv .cube .db .dop .dvc .exif .flac "
    b".gpx .h .h5 .hdf5 .htm .html .icc .icm .ini .ipynb .js .json .jsonl .keras .lock .log .lrv "
    b".m .m4a .mat .md .md5 .mp3 .nfo .npy .npz .onnx .opus .pkl .pp3 .pt .pth .pto .py .rst .sh "
    b".sha1 .sha256 .sig .sqlite .srt .tex .thm .toml .torrent .tsv .txt .url .vtt .wav .webloc "
    b".wma .xml .xmp .yaml .yml".split())


def wanted() -> str:
    """Which files in folders are taken, for messages that none was found."""
    pictures, videos = (" ".join(ending.decode() for ending in endings)
                        for endings in (PICTURES, VIDEOS))
    return (f"Pictures are files that end in {pictures}, in upper or lower case, or that have the "
            f"content of one and an unknown ending or none; videos end in {videos}")


def of_file(path: bytes) -> Kind:
    """What a file found in a folder is.

    The name decides if its ending is known: a broken picture is a picture. Else its first bytes do,
    and a picture without an ending is found. A video needs its ending: its frames are rows whose
    paths are told by it.

    Args:
        path: of the file, which is opened only if its ending isn't known.
    """
    name = os.path.basename(path).lower()
    ending = os.path.splitext(name)[1]
    if name.startswith(b"."):
        return Kind(OTHER, _ICLOUD) if ending == b".icloud" else Kind(BESIDE, "hidden")
    if ending in PICTURES:
        return Kind(PICTURE, _shown(ending))
    if ending in VIDEOS:
        return Kind(VIDEO, _shown(ending))
    if name in _BESIDE_NAMES or ending in _BESIDE_ENDINGS:
        return Kind(BESIDE, _shown(ending or name))
    if ending in _UNFINISHED_ENDINGS:
        return Kind(OTHER, _UNFINISHED.format(_shown(ending)))
    if ending in _UNSIGNED:
        return Kind(OTHER, _NOT_READ.format(_shown(ending)[1:].upper()))
    if ending in _RAWS:
        return Kind(OTHER, _RAW.format(f" ({_shown(ending)[1:].upper()})"))
    start = _start(path)
    if isinstance(start, str):
        return Kind(OTHER, start)
    kind = of_content(start)
    if kind is None:
        if is_text(start):
            return Kind(BESIDE, _shown(ending) if ending else "text")
        return Kind(OTHER, UNKNOWN)
    if kind.sort == VIDEO:
        return Kind(OTHER, f"a video ({kind.text}) by its content, but not by its name: give it an "
                           "ending such as .mp4")
    if kind.sort == PICTURE and parse_path(name)[1] is not None:
        return Kind(OTHER, "its name is that of a frame of a video: rename it")
    return kind


def of_content(start: bytes) -> Kind | None:
    """What a file is by its first ``START`` bytes, whatever its name; None if they don't say.

    ``PICTURE`` and ``VIDEO`` only say which decoder to try.
    """
    if start.startswith(_TIFF_SIGNS) and start[8:10] != b"CR":  # DICOM may begin like TIFF
        return Kind(PICTURE, "TIFF")
    text = is_text(start)
    for at, sign, kind in _SIGNS:
        if start.startswith(sign, at) and not (text and len(sign) < 4):  # "BM" begins words too
            return kind
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], MP4)
    if len(start) > 3 * 188 and start[0] == start[188] == start[376] == 0x47:
        return Kind(OTHER, _VIDEO.format("MPEG transport stream"))
    if len(start) > 3 * 192 and start[4] == start[196] == start[388] == 0x47:
        return Kind(OTHER, _VIDEO.format("AVCHD"))
    if not start.strip(b"\0"):
        return Kind(OTHER, _ZEROS) if start else None
    if re.match(rb"P[1-7f]\s+(?:#[^\n]*\n\s*)*(?:\d|WIDTH)", start, re.IGNORECASE):
        return Kind(OTHER, _NOT_READ.format("PPM, PGM or PBM"))
    return _of_text(start) if text else None


def reason(start: bytes, wanted: str) -> str | None:
    """Why a file that begins like this is no picture or no video; None if it may be one.

    Args:
        start: its first ``START`` bytes.
        wanted: ``PICTURE`` or ``VIDEO``.
    """
    kind = of_content(start)
    if kind is None:
        return "text, neither a picture nor a video" if is_text(start) else None
    if kind.sort == OTHER:
        return kind.text
    if kind.sort == wanted:
        return None
    return f"a {kind.sort} ({kind.text}), not a {wanted}: give its name an ending that says so"


def _of_text(start: bytes) -> Kind | None:
    if _MARKUP.match(start):
        tag = _TAGS.search(start)
        if tag is None:
            return Kind(OTHER, f"XML text, {_ERROR}")
        return Kind(OTHER, _SVG if tag[1].lower() == b"svg" else _HTML)
    if _BASE64.match(start):
        return Kind(OTHER, "a picture written as text (base64): decode it, such as with base64 -d")
    if start.lstrip()[:1] in (b"{", b"[") and start.rstrip(b"\0\r\n ")[-1:] in (b"}", b"]"):
        return Kind(OTHER, f"JSON text, {_ERROR}")
    return None


def is_text(start: bytes) -> bool:
    """Whether these bytes look like text in ASCII, UTF-8 or UTF-16."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    if not start or re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]", start):
        return False
    try:
        # a character may be cut at the end
        start.decode() if len(start) < START else start[:-3].decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        return len(start) >= START and error.start > len(start) - 8
    return True


def irregular(mode: int) -> str:
    """Why what isn't a regular file can't be read, given its mode."""
    if stat.S_ISDIR(mode):
        return "not a regular file, but a folder: name the files in it"
    what = "named pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
    return f"not a regular file, but a {what}: save what it delivers in a file, or remove it"


def _start(path: bytes) -> bytes | str:
    """The first bytes of a file, or why there are none."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return irregular(os.fstat(descriptor).st_mode)
        return os.pread(descriptor, START, 0) or EMPTY
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    finally:
        os.close(descriptor)


def _shown(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")
