"""Near duplicates among many pictures: hashes compared by bands, and all with all.

    python benchmarks/near.py [--rounds N] [--most N] [--json FILE]

Hashes of random pictures whose spectrum falls by the frequency, as that of photographs does; a
tenth of them are others' with a few bits changed. Both ways find the same pairs.
"""

from __future__ import annotations

import statistics

import numpy as np
from common import arguments, finish, interleave, ratio

from preprocessing import hamming, similar

COUNTS = (1_000, 10_000, 50_000, 200_000)
_AT_ONCE = 4096  # pictures


def hashes(count: int) -> np.ndarray:
    """uint64 (count)."""
    random = np.random.default_rng(0)
    side = similar.THUMB
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = 1
    words = []
    for start in range(0, count, _AT_ONCE):
        noise = random.normal(size=(min(_AT_ONCE, count - start), side, side))
        pixels = np.fft.irfft2(np.fft.rfft2(noise) / frequency, (side, side))
        pixels -= pixels.min((1, 2), keepdims=True)
        pixels *= 255 / pixels.max((1, 2), keepdims=True)
        grey = np.repeat(pixels.astype(np.uint8)[..., None], 3, -1)
        words.append(np.packbits(similar.hashes(grey), axis=1).view(np.uint64)[:, 0])
    whole = np.concatenate(words)
    copies = count // 10
    for _ in range(4):
        whole[:copies] = whole[-copies:] ^ (np.uint64(1) << random.integers(
            0, 64, copies, dtype=np.uint64))
    return whole


def main() -> None:
    options = arguments(__doc__ or "", rounds=3, most=COUNTS[-1])
    print(f"{'hashes':>9}  {'pairs':>9}  {'all with all, s':>15}  {'by bands, s':>11}  bands")
    rows, ratios = {}, {}
    for count in (count for count in COUNTS if count <= options.most):
        words = hashes(count)
        pairs = [np.concatenate([*hamming.near(words, None, similar.DISTANCE, bands)])
                 for bands in (0, None)]
        assert np.array_equal(*pairs), "the ways differ"
        seconds = interleave({
            "all": lambda words=words: [*hamming.near(words, None, similar.DISTANCE, 0)],
            "bands": lambda words=words: [*hamming.near(words, None, similar.DISTANCE)]},
            options.rounds)
        bands = hamming.cheapest(words, None, similar.DISTANCE)
        medians = {name: statistics.median(each) for name, each in seconds.items()}
        print(f"{count:>9,}  {len(pairs[0]):>9,}  {medians['all']:>15.3f}  "
              f"{medians['bands']:>11.3f}  {bands or 'none: all with all'}", flush=True)
        rows[str(count)] = {**medians, "number of bands": bands, "pairs": len(pairs[0])}
        ratios[f"all with all over bands, {count:,}"] = ratio(seconds, "all", "bands")
    finish(options, rows, ratios, {})


if __name__ == "__main__":
    main()
