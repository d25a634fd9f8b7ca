"""The sample data: reproducible, consistent, and no trivial fact gives the label away."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing import sample, saves

COUNT = 400  # enough pictures for an AUC to ±0.03


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    assert sample.generate(root, COUNT, seed=3) == COUNT
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def auc(score, label) -> float:
    """Probability that a tampered picture scores above an authentic one, ties counted half."""
    score, label = np.asarray(score, float), np.asarray(label)
    above = score[label == 1][:, None] - score[label == 0]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def auc_of_category(values, label, folds=5) -> float:
    """Mean over the folds of the AUC of each value's label frequency in the other folds."""
    values, label = np.unique(values, return_inverse=True)[1], np.asarray(label)
    fold = np.random.default_rng(0).integers(folds, size=len(values))
    scores = []
    for k in range(folds):
        seen = np.bincount(values[fold != k], minlength=values.max() + 1)
        hits = np.bincount(values[fold != k], label[fold != k], minlength=values.max() + 1)
        scores.append(auc(((hits + 0.5) / (seen + 1))[values[fold == k]], label[fold == k]))
    return float(np.mean(scores))


def segment(data: bytes, marker: int) -> bytes:
    """All JPEG header segments with this marker, joined."""
    at, content = 2, b""
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        content += data[at + 4 : at + 2 + length] if data[at + 1] == marker else b""
        at += 2 + length
    return content


def test_any_number_of_ranks_writes_the_same_bytes(tmp_path):
    sample.generate(tmp_path / "one", 23, seed=1)
    seen = []
    written = [
        sample.generate(tmp_path / "three", 23, 1, rank, 3, seen.append) for rank in (2, 0, 1)
    ]
    assert sum(written) == sum(seen) == 23 and set(seen) == {1}
    assert max(written) - min(written) <= 1
    by_one = contents(tmp_path / "one")
    assert by_one == contents(tmp_path / "three")
    plan = sample.plan(23, seed=1)
    assert set(by_one) == {p.path for p in plan} | {p.mask for p in plan if p.mask}


def test_a_second_run_only_completes(tmp_path):
    sample.generate(tmp_path, 12)
    before = contents(tmp_path)
    assert sample.generate(tmp_path, 12) == 0
    names = sorted(before)
    lost, other, mask, another = (tmp_path / path for path in (*names[:2], *names[6:8]))
    assert mask.parent.name == "Gt"
    for path in (lost, mask):
        path.unlink()
    for path in (other, another):
        path.write_bytes(b"not a picture")
    assert sample.generate(tmp_path, 12) == 2
    assert contents(tmp_path) == before
    assert sample.generate(tmp_path, 14) == 2, "a larger set begins with the smaller one"


def test_more_ranks_than_pictures(tmp_path):
    assert [sample.generate(tmp_path, 2, 0, rank, 5) for rank in range(5)].count(1) == 2
    assert [Path(path).parent.name for path in sorted(contents(tmp_path))] == ["Au", "Gt", "Tp"]


def test_seeds_differ(tmp_path):
    for seed in (0, 1):
        sample.generate(tmp_path / str(seed), 10, seed)
    first, second = (cv2.imread(str(tmp_path / s / "Au" / "Au_ani_00001.jpg")) for s in "01")
    assert first.shape != second.shape or np.abs(first.astype(int) - second).mean() > 5
    assert sample.generate(tmp_path / "0", 10, seed=1) == 10, "files of another seed don't count"


@pytest.mark.parametrize("count", [2, 3, 11, 400, 1001])
def test_names_labels_and_sources_agree(count):
    pictures = sample.plan(count, seed=3)
    assert [p.index for p in pictures] == list(range(count))
    assert len({p.path for p in pictures}) == count
    assert abs(2 * sum(p.label for p in pictures) - count) <= 1
    authentic = {p.sources[0] for p in pictures if p.label == 0}
    for p in pictures:
        folder, name = p.path.split("/")
        code, *ids, _ = name.removesuffix(".jpg").rsplit("_", 3)
        if p.label == 0:
            assert folder == "Au" and name == f"Au_{p.sources[0][:3]}_{p.sources[0][3:]}.jpg"
            assert p.kind == "authentic"
        else:
            assert folder == "Tp" and set(ids) == set(p.sources) <= authentic
            assert p.kind == ("copy-move" if len(p.sources) == 1 else "splice")
            assert code.startswith("Tp_S_" if p.kind == "copy-move" else "Tp_D_")


def test_components_stay_small_and_kinds_and_categories_are_spread():
    pictures = sample.plan(1000)
    leader = {}

    def find(name):
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for p in pictures:
        for source in p.sources[1:]:
            leader[find(source)] = find(p.sources[0])
    assert max(Counter(find(p.sources[0]) for p in pictures).values()) <= sample.CLUSTER
    kinds = Counter(p.kind for p in pictures)
    assert kinds["authentic"] == 500 and min(kinds["copy-move"], kinds["splice"]) > 150
    categories = Counter(p.sources[0][:3] for p in pictures if p.label == 0)
    assert set(categories) == set(sample.CATEGORIES) and min(categories.values()) >= 62


def test_a_set_of_one_is_rejected():
    with pytest.raises(ValueError, match="at least 2"):
        sample.plan(1)


@pytest.mark.slow
def test_trivial_facts_hardly_predict_the_label(root):
    pictures = sample.plan(COUNT, seed=3)
    label = [p.label for p in pictures]
    files = [(root / p.path).read_bytes() for p in pictures]
    pixels = [cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_COLOR) for f in files]
    assert all(f.startswith(b"\xff\xd8") for f in files)
    assert len({segment(f, 0xFE) for f in files}) == 1, "comment"
    frames = [segment(f, 0xC0) for f in files]
    assert {frame[7] for frame in frames} == {0x22}, "4:2:0 throughout"
    for values in ([segment(f, 0xDB) for f in files], [frame[1:5] for frame in frames]):
        assert 1 < len(set(values)) < 10
        assert auc_of_category(values, label) <= 0.6
    scalars = {
        "file size": [len(f) for f in files],
        "bytes per pixel": [len(f) / p.size for f, p in zip(files, pixels, strict=True)],
        "width": [p.shape[1] for p in pixels],
        "mean": [p.mean() for p in pixels],
        "spread": [p.std() for p in pixels],
        "blue": [p[..., 0].mean() for p in pixels],
        "red": [p[..., 2].mean() for p in pixels],
        "border": [p[0].mean() for p in pixels],
        "sharpness": [cv2.Laplacian(p, cv2.CV_32F).var() for p in pixels],
    }
    measured = {name: auc(values, label) for name, values in scalars.items()}
    assert all(max(a, 1 - a) <= 0.6 for a in measured.values()), measured


@pytest.mark.slow
def test_most_pictures_have_casias_dimensions(root):
    shapes = Counter(cv2.imread(str(p)).shape for p in sorted((root / "Au").iterdir()))
    assert shapes[256, 384, 3] > 0.7 * COUNT / 2 and len(shapes) > 1


def test_error_levels_show_the_pasted_region():
    """A later save changes the region more, or less, than its surroundings.

    The error levels are compared with those of the authentic counterpart at the same place, so that
    the contents have no influence."""
    ratios = []
    for index in range(1, 60, 2):
        quality = sample._camera_quality(index - 1, 0)
        host = saves.saved(sample._scene(index - 1, 0), quality)
        rng = sample._rng(0, index, sample._REGION)
        forged = sample._forged(host, sample._forgery(index, 0), quality, rng, 0)
        inside = (host != forged).any(2)
        levels = []
        for pixels in (host, forged):
            last = saves.saved(pixels, 95)
            change = cv2.absdiff(last, saves.saved(last, 90)).mean(2)
            levels.append(change[inside].mean() / change[~inside].mean())
        ratios.append(np.log(levels[1] / levels[0]) * (-1 if quality is None else 1))
    assert np.mean(np.array(ratios) > 0.1) > 0.8, ratios


def test_masks_show_what_was_pasted(tmp_path):
    """Before the last save nothing differs far from the mask, and nearly everything within."""
    sample.generate(tmp_path, 24, seed=2)
    for picture in sample.plan(24, seed=2):
        if picture.mask is None:
            assert picture.label == 0
            continue
        assert Path(picture.mask).name == f"{Path(picture.path).stem}_gt.png"
        mask = cv2.imread(str(tmp_path / picture.mask), cv2.IMREAD_UNCHANGED)
        quality = sample._camera_quality(picture.index - 1, 2)
        host = saves.saved(sample._scene(picture.index - 1, 2), quality)
        forged = sample._forged(host, sample._forgery(picture.index, 2), quality,
                                sample._rng(2, picture.index, sample._REGION), 2)
        different = (host != forged).any(2)
        assert mask.dtype == np.uint8 and mask.shape == host.shape[:2]
        assert set(np.unique(mask)) == {0, 255} and 0.02 < (mask > 0).mean() < 0.3
        near = cv2.dilate(mask, np.ones((25, 25)))
        assert not different[near == 0].any() and different[mask > 0].mean() > 0.9
