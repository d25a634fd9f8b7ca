"""Decoding untrusted video files to frames, within limits of size and time.

A video is read from its first frame on, without seeking: then every rank agrees which frame is the
120th. The number of frames and the duration in the container are estimates, which the decoded
frames confirm or correct.

FFmpeg, as built into OpenCV, gets no file name but the descriptor of a regular file that begins
like a known container, and may open nothing else: a playlist, or a name like ``%03d``, could lead
it to other files or to the network.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import count as count_up
from itertools import islice, takewhile
from math import isfinite
from typing import NamedTuple

import cv2
import numpy as np

from preprocessing import kinds, streams
from preprocessing.faces import Box
from preprocessing.names import FRAMES, At, Moment, Nth, evenly
from preprocessing.picture import MAX_PIXELS, MAX_SIDE, Rejected

MAX_SAMPLED = 10_000  # frames used of a video
MAX_RATE = 1000  # frames per second, since moments are whole milliseconds
MAX_DECODED = 10**12  # pixels of a video: 4.5 hours of 1920×1080 at 30 frames per second
_LEAST = 100_000  # pixels counted for a smaller frame, so that tiny frames are limited too
_HELD = 256 << 20  # bytes of frames kept until the total number of frames is certain
_TRIES = 10  # attempts to find another frame before a video counts as ended
_TIMEOUT = 60_000  # milliseconds for one frame
_FRAME_BYTES = 16  # bytes of even an empty frame in a file, with its entry in the index
_DEFAULT_RATE = 25.0  # frames per second if the container has no plausible rate
_EMPTY = "it has no frames: an interrupted recording or export; repeat it"
_NEEDS_MORE = ("AV1", "H.266")  # codecs that OpenCV's FFmpeg knows and can't decode by itself

# read by OpenCV: suppress the messages of FFmpeg, and let it open these formats only
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
    "format_whitelist;mov,avi,matroska,mpeg,mpegvideo|protocol_whitelist;file")


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: counted from 0.
        seconds: time since the first frame.
        pixels: uint8 (height, width, 3), blue-green-red, as stored: like the orientation of
            pictures (``picture.decode``), the rotation in the container is ignored.
        box: the part that is used, as of ``tracks``; None: all of it.
    """

    number: int
    seconds: float
    pixels: np.ndarray
    box: Box | None = None


class Claim(NamedTuple):
    """What a container states about its video.

    Attributes:
        frames: number of frames, which may be wrong; 0 if not stated.
        rate: frames per second.
        width: in pixels.
        height: in pixels.
    """

    frames: int
    rate: float
    width: int
    height: int


def sample(path: bytes | str, count: int = FRAMES, rate: float | None = None) -> Iterator[Frame]:
    """Frames of a video in order: ``count`` evenly spaced ones, or ``rate`` per second.

    No frame comes twice: a video with fewer frames yields all of them.

    Raises:
        Rejected: the video can't be used, or more than ``MAX_SAMPLED`` frames are asked for.
    """
    selected = _spread(path, evenly(count)) if rate is None \
        else _at_times(path, map(At, _ticks(rate)))
    last = -1
    try:
        for index, frame in enumerate(selected):
            if index == MAX_SAMPLED:
                raise Rejected(f"more than {MAX_SAMPLED:,} frames: use fewer")
            if frame.number > last:
                last = frame.number
                yield frame
    except _Ended:
        if last < 0:
            raise


def moments(path: bytes | str, count: int = FRAMES, rate: float | None = None) -> list[Moment]:
    """The frames of a video that become rows.

    For a ``count`` the file is not opened, so that listing is fast: the rank that decodes the video
    finds out which frame is the third of ten. A ``rate`` needs the duration: it is that of the
    container, or all frames are counted if the container states none or more frames than its bytes
    can hold. A file that can't be opened gets one moment, so that it has a row and is rejected
    there.
    """
    if rate is None:
        return list(evenly(count))
    try:
        claim = probe(path)
        plausible = claim.frames if claim.frames <= size(path) / _FRAME_BYTES else 0
        last = max(0, 1000 * ((plausible or _count(path)) - 1) / claim.rate)
    except Rejected:
        last = 0.0
    ticks = takewhile(lambda tick: tick <= round(last), _ticks(rate))
    return [At(tick) for tick in islice(ticks, MAX_SAMPLED)]


def size(path: bytes | str) -> int:
    """Bytes of a file; 0 if unknown."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def probe(path: bytes | str) -> Claim:
    """What the container states; no frames are decoded except those that FFmpeg needs to open it.

    Raises:
        Rejected: the video can't be opened, or its frames are too large.
    """
    with _Reader(path) as reader:
        return reader.claim


def frames(path: bytes | str, moments: Sequence[Moment]) -> Iterator[Frame | Rejected]:
    """The frame of each moment, or the reason why there is none, in order.

    Args:
        path: the video.
        moments: in order of time; all ``Nth`` with the same number of parts, or all ``At``.
    """
    spread = [moment for moment in moments if isinstance(moment, Nth)]
    times = [moment for moment in moments if isinstance(moment, At)]
    done = 0
    try:
        for frame in _spread(path, spread) if spread else _at_times(path, times):
            done += 1
            yield frame
    except Rejected as reason:
        yield from [reason] * (len(moments) - done)


class Numbered:
    """Frames of a video by their numbers.

    Attributes:
        stated: number of frames, as of ``Claim``.

    Raises:
        Rejected: the video can't be opened.
    """

    def __init__(self, path: bytes | str) -> None:
        self._reader = _Reader(path)
        self.stated = self._reader.claim.frames

    def at(self, number: int) -> np.ndarray:
        """Pixels of the frame of this number, from 0, as of ``Frame``; not lower than before.

        Raises:
            Rejected: there is no such frame, or it has no pixels.
        """
        reader = self._reader
        while reader.seen <= number:
            if not reader.grab():
                raise Rejected(f"there is no frame {number}, only {reader.seen:,}")
        return reader.frame().pixels

    def close(self) -> None:
        """Release the file."""
        self._reader.close()


def _spread(path: bytes | str, moments: Sequence[Nth]) -> Iterator[Frame]:
    """Frames of evenly spaced moments.

    This takes one pass if the container has the correct number of frames. A second pass follows if
    not, or if the frames are too large to be kept until the end of the first.
    """
    with _Reader(path) as reader:
        claimed, *_, width, height = reader.claim
        held: list[Frame] = []
        if 0 < len(moments) * width * height * 3 <= _HELD:
            held += _pick(reader, _numbers(moments, claimed))
        while reader.grab():
            pass
        total = reader.seen
    if total == 0:
        raise Rejected(_why_none(path))
    if total == claimed and held:
        yield from held
        return
    del held
    numbers = _numbers(moments, total)
    with _Reader(path) as reader:
        yield from _pick(reader, numbers)
    if reader.seen <= numbers[-1]:
        raise Rejected("the file changed while it was read")


def _numbers(moments: Sequence[Nth], total: int) -> list[int]:
    """Frame number of each moment: the middle of its part."""
    return [(2 * number - 1) * total // (2 * parts) for number, parts in moments]


def _pick(reader: _Reader, numbers: Iterable[int]) -> Iterator[Frame]:
    """The frames with these ascending numbers, up to the end of the video."""
    for number in numbers:
        while reader.seen <= number:
            if not reader.grab():
                return
        yield reader.frame()


def _at_times(path: bytes | str, moments: Iterable[At]) -> Iterator[Frame]:
    """For each moment the first frame that is not earlier."""
    with _Reader(path) as reader:
        for moment in moments:
            # moments are rounded to whole milliseconds
            while reader.seen == 0 or reader.seconds < (moment.milliseconds - 0.501) / 1000:
                if not reader.grab():
                    raise _Ended(f"the last frame is at {reader.seconds:.3f} s" if reader.seen
                                 else _why_none(path))
            yield reader.frame()


class _Ended(Rejected):
    """There is no frame at this moment."""


def _ticks(rate: float) -> Iterator[int]:
    """Endless times in milliseconds, ``rate`` per second."""
    return (round(1000 * tick / rate) for tick in count_up())


def _count(path: bytes | str) -> int:
    """The number of frames, by decoding all of them."""
    with _Reader(path) as reader:
        while reader.grab():
            pass
        return reader.seen


class _Reader:
    """A video being read from its start; a context manager.

    Attributes:
        claim: what the container states.
        seen: number of frames decoded so far.
        seconds: time of the last frame since the first.
    """

    def __init__(self, path: bytes | str) -> None:
        self._descriptor = _open(path)
        self._capture = cv2.VideoCapture()
        self.seen, self.seconds, self._start = 0, 0.0, 0.0
        self._frame: Frame | None = None
        self._over = False
        try:
            self.claim = self._claim()
        except BaseException:
            self.close()
            raise

    def _claim(self) -> Claim:
        capture = self._capture
        try:
            opened = capture.open(f"/dev/fd/{self._descriptor}", cv2.CAP_FFMPEG, (
                cv2.CAP_PROP_N_THREADS, 1,  # one core per rank
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT))
        except cv2.error:
            opened = False
        if not opened:
            raise Rejected(_why(self._descriptor)
                           or "FFmpeg can't open it: cut off, damaged, or of an unknown codec")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        count, rate, width, height = (capture.get(name) for name in (
            cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH,
            cv2.CAP_PROP_FRAME_HEIGHT))
        if not width * height <= MAX_PIXELS or max(width, height) > MAX_SIDE:
            raise Rejected(f"{width:.0f}×{height:.0f} pixels are too many (at most "
                           f"{MAX_PIXELS // 10**6} million, {MAX_SIDE} a side)")
        if width < 1 or height < 1:
            raise Rejected(_why(self._descriptor) or "no pixels")
        return Claim(int(count) if 0 < count < 1e12 else 0,
                     rate if 0.01 <= rate <= MAX_RATE else _DEFAULT_RATE, int(width), int(height))

    def grab(self) -> bool:
        """Decode the next intact frame; False at the end.

        Raises:
            Rejected: the video is too long.
        """
        _, _, width, height = self.claim
        if self.seen * max(width * height, _LEAST) > MAX_DECODED:
            raise Rejected(f"too long: not over after {self.seen:,} frames of {width}×{height}")
        # False may also mean a damaged part, with more frames after it
        if self._over or not any(self._capture.grab() for _ in range(_TRIES)):
            self._over = True
            return False
        self._frame = None
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self.seen == 0:
            self._start = position if isfinite(position) else 0.0
        elif self.seconds < position - self._start < float("inf"):
            self.seconds = position - self._start
        else:  # no time, or one that does not increase
            self.seconds += 1 / self.claim.rate
        self.seen += 1
        return True

    def frame(self) -> Frame:
        """The last decoded frame.

        Raises:
            Rejected: it has no pixels.
        """
        if self._frame is None:
            try:
                done, pixels = self._capture.retrieve()
            except cv2.error:
                done = False
            if not done or pixels.ndim != 3 or not pixels.size:
                raise Rejected(f"frame {self.seen - 1} cannot be decoded")
            self._frame = Frame(self.seen - 1, self.seconds, pixels)
        return self._frame

    def close(self) -> None:
        """Release the file."""
        self._capture.release()
        os.close(self._descriptor)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: bytes | str) -> int:
    """Descriptor of a regular file that begins like a video; the caller must close it."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Rejected(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Rejected(kinds.irregular(os.fstat(descriptor).st_mode))
        start = os.pread(descriptor, kinds.START, 0)
        if not start:
            raise Rejected(kinds.EMPTY)
        if not _is_video(start):
            raise Rejected(kinds.reason(start, kinds.VIDEO) or "not a video of a known kind (MP4, "
                           "QuickTime, AVI, Matroska, WebM, MPEG)")
    except OSError as error:
        os.close(descriptor)
        raise Rejected(f"cannot be read: {error.strerror}") from None
    except Rejected:
        os.close(descriptor)
        raise
    return descriptor


def _is_video(start: bytes) -> bool:
    """Whether these are the first bytes of a supported container."""
    kind = kinds.of_content(start)
    return kind is not None and kind.sort == kinds.VIDEO


def _why_none(path: bytes | str) -> str:
    """Why no frame of a video can be decoded that FFmpeg could open."""
    try:
        descriptor = _open(path)
    except Rejected as reason:  # changed meanwhile
        return str(reason)
    try:
        return _why(descriptor) or "no frames that can be decoded: damaged, or of an unknown codec"
    finally:
        os.close(descriptor)


def _why(descriptor: int) -> str | None:
    """Why a file can't be decoded, as far as its container says."""
    try:
        named = streams.of(descriptor)
    except OSError:
        return None
    if named is None:
        return ("cut off: its index (moov) isn't there, as of an interrupted recording or "
                "download: copy it again, or repair it")
    if not named and kinds.of_content(os.pread(descriptor, kinds.START, 0)) == kinds.MP4:
        return _EMPTY
    films = [stream for stream in named if stream.sort == streams.VIDEO]
    if not films:
        sounds = [stream.codec for stream in named if stream.sort == streams.SOUND]
        return f"sound only ({', '.join(sounds)}), without pictures: remove it" if sounds else None
    if films[0].codec == "encrypted":
        return "encrypted (DRM): its frames can't be decoded without its key"
    if films[0].samples == 0:
        return _EMPTY
    if films[0].codec in _NEEDS_MORE:
        return (f"its codec, {films[0].codec}, isn't among those of OpenCV's FFmpeg: convert it "
                "without loss, such as with ffmpeg -i FILE -c:v ffv1 NEW.mkv")
    return None
