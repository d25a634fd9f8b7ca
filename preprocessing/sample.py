"""Sample data: procedural pictures with the folders and names of CASIA 2.

Every authentic picture is a rendered scene, saved once by its "camera" and once more on export. Its
tampered counterpart is the same scene with a region pasted into the camera's file before the
export, so that both classes end with the same kind of save and only the history of the region
differs. A region that was never compressed changes more in another save than its surroundings, and
one that was compressed more strongly changes less: the error levels of Krawetz, "A Picture's Worth"
(2007), and the JPEG ghosts of Farid, "Exposing digital forgeries from JPEG ghosts" (2009). Beside
the pictures lie the masks of the tampered ones: the region where the pasted pixels have at least
half of the weight, since a soft seam has no edge of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path

import cv2
import numpy as np

from hpc_deepfake.core.files import whole
from preprocessing import saves

CATEGORIES = ("ani", "arc", "art", "cha", "nat", "pla", "sec", "txt")
CLUSTER = 10  # pictures that may share sources; small groups keep grouped splits balanced
SIZES = ((384, 256),) * 17 + ((256, 384), (320, 240), (480, 320))  # width, height, as in CASIA 2
COARSE = (50, 74)  # JPEG quality of a phone or web page, which removes the noise of the sensor
LOSSY = 0.4  # share of such cameras; below one half, since their forgeries have larger files
EXPORT = (94, 98)  # JPEG quality of the last save, for both classes; near 90 ELA shows less
NOTES = 24_000  # maximum bytes of maker's notes, which hide the larger files of forgeries
VERSION = 2  # increase it when the pictures change: older files are then replaced

_COMMENT = "hpc_deepfake sample "
_SCENE, _CAMERA, _FORGERY, _REGION, _SAVE, _MAKER = range(6)  # independent random streams


@dataclass(frozen=True)
class Picture:
    """One picture of the plan: its path and what it is made from."""

    index: int
    path: str  # relative to the root, "/" on every system
    label: int  # 0 authentic, 1 tampered
    sources: tuple[str, ...]  # ids such as "ani00012": its own, or those of (target, source)
    kind: str  # "authentic", "copy-move", "splice"

    @property
    def mask(self) -> str | None:
        """Path of the mask of a tampered picture, relative to the root."""
        return f"Gt/{Path(self.path).stem}_gt.png" if self.label else None


@dataclass(frozen=True)
class _Forgery:
    """The parameters of one tampered picture that its name tells."""

    target: int
    source: int
    area: float  # of the picture
    angle: float
    scale: float
    feather: float  # sigma of the seam, pixels


def plan(count: int, seed: int = 0) -> list[Picture]:
    """All pictures of a set in order, without rendering: even indices authentic, odd ones tampered.

    The first n pictures of a larger set are the set of n pictures.
    """
    if count < 2:
        raise ValueError(f"a sample needs at least 2 pictures, not {count}")
    return [_picture(index, seed) for index in range(count)]


def generate(
    out: Path,
    count: int = 1000,
    seed: int = 0,
    rank: int = 0,
    size: int = 1,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write this rank's share of a set and its masks, and return the number of pictures written.

    Pictures are pure functions of (seed, index): any number of ranks writes the same bytes.
    Complete pictures of the same seed and version are kept and not counted; masks that they lack
    are written. Files of another set are kept too, so use a folder of its own for each set.

    Args:
        out: folder, which gets the folders ``Au``, ``Tp`` and ``Gt``, that of the masks.
        count: number of pictures of the set, at least 2.
        seed: seed of the set.
        rank: number of this rank.
        size: number of ranks.
        progress: called with 1 after each picture written.
    """
    pictures = plan(count, seed)
    for folder in ("Au", "Tp", "Gt"):
        (Path(out) / folder).mkdir(parents=True, exist_ok=True)
    comment = f"{_COMMENT}{VERSION}, seed {seed}"  # identifies files of this set
    threads, written = cv2.getNumThreads(), 0
    cv2.setNumThreads(1)  # one core per rank
    try:
        # neighbours share sources: a contiguous share renders most scenes only once
        for picture in pictures[count * rank // size : count * (rank + 1) // size]:
            if picture.mask and not saves.is_of(Path(out) / picture.mask, comment):
                with whole(Path(out) / picture.mask) as temporary:
                    temporary.write_bytes(saves.mask(changed(picture.index, seed), comment))
            path = Path(out) / picture.path
            if saves.is_of(path, comment):
                continue
            with whole(path) as temporary:
                temporary.write_bytes(saves.commented(comment) + _notes(picture.index, seed)
                                      + _export(picture.index, seed)[2:])
            written += 1
            if progress:
                progress(1)
    finally:
        cv2.setNumThreads(threads)
    return written


def is_drawn(data: bytes) -> bool:
    """Whether a file says that it is a picture of ``generate``, of any seed and version."""
    return saves.says(data, _COMMENT)


def changed(index: int, seed: int) -> np.ndarray:
    """The region of a tampered picture, bool (H, W): where the pasted pixels have at least half of
    the weight. Nothing is rendered for it."""
    size = _size(_rng(seed, index - 1, _SCENE))
    _, soft, _ = _source_region(_rng(seed, index, _REGION), size, _forgery(index, seed),
                                _camera_quality(index - 1, seed))
    return soft >= 0.5


def _notes(index: int, seed: int) -> bytes:
    """An APP15 segment of random length, like the notes and thumbnails of cameras and phones.

    Without it the file size alone gives a cross-validated AUC of 0.61 to 0.64, because a region
    that was never compressed makes the smallest files larger.
    """
    rng = _rng(seed, index, _MAKER)
    notes = rng.bytes(int(rng.integers(NOTES)))
    return b"\xff\xef" + (len(notes) + 2).to_bytes(2, "big") + notes


def _rng(seed: int, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng((seed, index, stream))


def _identity(index: int) -> str:
    """CASIA's id of the authentic picture with this (even) index."""
    number, category = divmod(index // 2, len(CATEGORIES))
    return f"{CATEGORIES[category]}{number + 1:05d}"


def _picture(index: int, seed: int) -> Picture:
    if index % 2 == 0:
        name = _identity(index)
        return Picture(index, f"Au/Au_{name[:3]}_{name[3:]}.jpg", 0, (name,), "authentic")
    forgery = _forgery(index, seed)
    target, source = _identity(forgery.target), _identity(forgery.source)
    same = target == source
    code = ("C" if forgery.angle else "N") + ("R" if forgery.scale != 1 else "N") + "N"
    extent = "S" if forgery.area < 0.1 else "M" if forgery.area < 0.2 else "L"
    seam = "B" if forgery.feather > 1 else "N"
    name = f"Tp_{'S' if same else 'D'}_{code}_{extent}_{seam}_{target}_{source}"
    kind = "copy-move" if same else "splice"
    sources = (target,) if same else (target, source)
    return Picture(index, f"Tp/{name}_{index // 2 + 1:05d}.jpg", 1, sources, kind)


def _forgery(index: int, seed: int) -> _Forgery:
    """The forgery of a tampered picture.

    Every authentic picture is a target once, so that contents and dimensions of the classes match.
    The source is the target itself or an earlier picture of the cluster.
    """
    rng = _rng(seed, index, _FORGERY)
    target = index - 1
    others = range(index - index % CLUSTER, target, 2)
    spliced = bool(others) and rng.random() < 0.7
    rotated, resized, blurred = rng.random(3) < (0.3, 0.3, 0.4)
    return _Forgery(
        target=target,
        source=int(rng.choice(others)) if spliced else target,
        area=rng.uniform(0.07, 0.26),
        angle=rng.uniform(-40, 40) if rotated else 0.0,
        scale=rng.uniform(0.8, 1.3) if resized else 1.0,
        feather=rng.uniform(1, 2.5) if blurred else 0.5,
    )


def _export(index: int, seed: int) -> bytes:
    """The JPEG file of one picture, without the comment."""
    camera = _camera_quality(index - index % 2, seed)
    pixels = saves.saved(_scene(index - index % 2, seed), camera)
    if index % 2:
        pixels = _forged(pixels, _forgery(index, seed), camera, _rng(seed, index, _REGION), seed)
    return saves.encode(pixels, _quality(_rng(seed, index, _SAVE), EXPORT))


def _quality(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(*bounds, endpoint=True))


def _camera_quality(index: int, seed: int) -> int | None:
    """JPEG quality of the camera's save; None for one without loss (a raw converter)."""
    rng = _rng(seed, index, _CAMERA)
    return _quality(rng, COARSE) if rng.random() < LOSSY else None


def _forged(
    host: np.ndarray, forgery: _Forgery, camera: int | None, rng: np.random.Generator, seed: int
) -> np.ndarray:
    """The camera file of the target with a pasted region of another history, uint8 (H, W, 3)."""
    height, width = host.shape[:2]
    quality, mask, (x, y) = _source_region(rng, (width, height), forgery, camera)
    source = saves.saved(_scene(forgery.source, seed), quality)
    from_x, from_y = rng.uniform(0.25, 0.75, 2) * (source.shape[1], source.shape[0])
    warp = cv2.getRotationMatrix2D((from_x, from_y), forgery.angle, forgery.scale)
    warp[:, 2] += np.rint((x - from_x, y - from_y))  # whole pixels, so that a plain copy is exact
    patch = cv2.warpAffine(
        source, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.rint(host + mask[..., None] * (patch.astype(np.float32) - host)).astype(np.uint8)


def _source_region(
    rng: np.random.Generator, size: tuple[int, int], forgery: _Forgery, camera: int | None
) -> tuple[int | None, np.ndarray, tuple[float, float]]:
    """Quality of the file that the region comes from, then as ``_region``. It was compressed more
    than an uncompressed host, and for a compressed one not at all."""
    quality = _quality(rng, COARSE) if camera is None else None
    return quality, *_region(rng, *size, forgery.area, forgery.feather)


def _region(
    rng: np.random.Generator, width: int, height: int, area: float, feather: float
) -> tuple[np.ndarray, tuple[float, float]]:
    """A soft mask, float32 (height, width) in 0…1, of an ellipse or polygon, and its centre."""
    radius = np.sqrt(area * width * height / np.pi)
    stretch = rng.uniform(0.75, 1.3)
    axes = np.minimum((radius * stretch, radius / stretch), (0.48 * width, 0.48 * height))
    centre = rng.uniform(axes, (width, height) - axes)
    corners = 40 if rng.random() < 0.5 else int(rng.integers(4, 9))
    wobble = 0 if corners == 40 else rng.uniform(-0.3, 0.3, corners)
    turn = (np.arange(corners) + wobble) * 2 * np.pi / corners
    points = centre + axes * np.stack([np.cos(turn), np.sin(turn)], 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    return cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), feather), tuple(centre)


def _texture(rng: np.random.Generator, width: int, height: int, cell: float) -> np.ndarray:
    """Noise with details of about `cell` pixels, float32 (height, width)."""
    shape = (max(2, round(height / cell)), max(2, round(width / cell)))
    grid = rng.standard_normal(shape, np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a scene, the first that is drawn from its stream."""
    return SIZES[rng.integers(len(SIZES))]


def _colour(rng: np.random.Generator, low: int = 30, high: int = 225) -> np.ndarray:
    """A muted colour, since objects in photographs are rarely saturated."""
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.normal(0, 25, 3), 10, 245).astype(np.float32)


@lru_cache(maxsize=CLUSTER // 2)
def _scene(index: int, seed: int) -> np.ndarray:
    """The scene before any save, uint8 (H, W, 3) BGR: sky, ground, objects, lens and sensor."""
    rng = _rng(seed, index, _SCENE)
    category = CATEGORIES[index // 2 % len(CATEGORIES)]
    width, height = _size(rng)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image: np.ndarray = np.repeat(_colour(rng) * (1 - rows) + _colour(rng) * rows, width, axis=1)
    skyline = rng.uniform(0.3, 0.9) * height + height / 16 * _texture(rng, width, 2, width / 5)[0]
    ground = (np.arange(height)[:, None] > skyline).astype(np.float32)[..., None]
    image += ground * 0.7 * (_colour(rng) - image)
    detail = rng.lognormal(-0.1, 0.4)  # some pictures are smooth, some busy
    relief = reduce(np.add, (_texture(rng, width, height, cell) * cell**0.6
                             for cell in (64, 24, 9, 3)))
    image += relief[..., None] * (0.5 + ground * detail)

    light = rng.uniform(-30, 30, 2)
    for _ in range(rng.integers(4, 16)):
        _draw_object(image, rng, light, detail, built=category in ("arc", "sec", "txt"))
    _draw_strokes(image, rng, category)

    image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 0.9)), np.float32)  # lens
    grain = rng.standard_normal(image.shape, np.float32) * rng.uniform(2.5, 4.5)
    image += grain * np.sqrt(np.clip(image, 20, 235) / 128)  # the sensor: more light, more noise
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    image.setflags(write=False)  # it is cached
    return image


def _draw_object(
    image: np.ndarray, rng: np.random.Generator, light: np.ndarray, detail: float, built: bool
) -> None:
    """Draw an ellipse or polygon with its own shadow, shading and texture into `image`."""
    height, width = image.shape[:2]
    radius = rng.uniform(0.04, 0.24, 2) * min(width, height)
    corners = 4 if built and rng.random() < 0.7 else int(rng.choice((3, 5, 7, 32, 32)))
    start = np.pi / 4 if built else rng.uniform(0, 6)
    turn = np.arange(corners) * 2 * np.pi / corners + start
    outline = np.stack([np.cos(turn), np.sin(turn)], 1) * radius
    outline += rng.uniform(0, 1, 2) * (width, height)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline - light / 5).astype(np.int32)], 255)
    image *= 1 - cv2.blur(mask, (7, 7))[..., None] * np.float32(0.4 / 255)  # its shadow
    mask[:] = 0
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 255)
    x, y, w, h = cv2.boundingRect(mask)
    if not w:
        return  # completely outside
    down, across = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
    surface = down * light[1] + across * light[0]
    surface += _texture(rng, w, h, rng.uniform(2, 12)) * (rng.uniform(0, 8) * detail)
    if rng.random() < 0.3:  # windows, stripes, fur
        surface += 12 * detail * np.sign(np.sin(across * rng.uniform(3, w / 4 + 3)))
    part = image[y : y + h, x : x + w]
    alpha = (mask[y : y + h, x : x + w, None] > 0).astype(np.float32)
    part += alpha * (_colour(rng) + surface[..., None] - part)


def _draw_strokes(image: np.ndarray, rng: np.random.Generator, category: str) -> None:
    """Draw twigs and wires, then words of invented letters, as many as suit the category."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(10, 30) if category in ("pla", "nat") else rng.integers(0, 6)):
        path = rng.uniform(0, 1, 2) * (width, height) + np.cumsum(rng.normal(0, 9, (6, 2)), 0)
        _polylines(image, path[None], _colour(rng), int(rng.integers(1, 3)))
    for _ in range(rng.integers(4, 12) if category == "txt" else rng.integers(0, 2)):
        letter = rng.uniform(5, 14)  # its height
        cells = np.arange(rng.integers(4, 16))[:, None, None] * (0.8 * letter, 0)
        strokes = rng.uniform(0, 1, (len(cells), 4, 2)) * (0.6 * letter, letter)
        word = strokes + cells + rng.uniform(0, 1, 2) * (0.7 * width, height - letter)
        _polylines(image, word, _colour(rng), 1)


def _polylines(image: np.ndarray, paths: np.ndarray, colour: np.ndarray, width: int) -> None:
    points = np.rint(paths).astype(np.int32)
    cv2.polylines(image, points, False, colour.tolist(), width, cv2.LINE_AA)
