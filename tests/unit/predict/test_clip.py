"""The verdict on a video, and the plot of its frames."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.predict import clip


def test_the_verdict_on_a_video_is_the_mean():
    assert clip.verdict([0.1, 0.2, 0.9]) == pytest.approx(0.4)
    assert clip.verdict([1.0]) == 1.0
    with pytest.raises(ValueError):
        clip.verdict([])


def test_plot(tmp_path):
    """In the format of the extension, whatever the title contains; no other file is left behind."""
    for name, start in (("x.png", b"\x89PNG"), ("x.PNG", b"\x89PNG"), ("x.svg", b"<?xml"),
                        ("noextension", b"\x89PNG")):
        clip.plot([0.0, 1.5, 2.0], [0.1, 0.9, 0.4], 0.5, tmp_path / name, "a $\\frac{ \n {b}.mp4")
        assert (tmp_path / name).read_bytes().startswith(start)
    clip.plot([0.0], [0.5], 0.5, os.fspath(tmp_path / "one.png"), "")
    assert len(list(tmp_path.iterdir())) == 5
    with pytest.raises(InputError, match=r"cannot write .*nowhere"):
        clip.plot([0.0], [0.5], 0.5, tmp_path / "nowhere" / "x.png", "x")
    with pytest.raises(InputError, match=r"x\.txt: its extension must be one of .*png.*svg"):
        clip.plot([0.0], [0.5], 0.5, tmp_path / "x.txt", "x")


def test_plot_shows_frames_above_and_below_the_threshold(tmp_path):
    """Red appears only if a frame or the mean reaches the threshold."""
    red = np.array([0x3D, 0x55, 0xC8])  # blue-green-red of clip._ABOVE
    for threshold, expected in ((0.8, True), (0.95, False)):
        clip.plot([0.0, 1.0], [0.1, 0.9], threshold, tmp_path / "x.png", "x")
        pixels = cv2.imread(os.fspath(tmp_path / "x.png")).astype(int)
        assert (np.abs(pixels - red).sum(2) < 10).any() == expected


def test_plot_shows_undecided_frames(tmp_path):
    """Neither red nor blue between the thresholds."""
    colours = np.array([[0x3D, 0x55, 0xC8], [0xA8, 0x6C, 0x1B]])  # of clip._ABOVE and _BELOW
    for lower, expected in ((0.05, [False, False]), (0.5, [False, True]), (None, [False, True])):
        clip.plot([0.0, 1.0], [0.1, 0.9], 0.95, tmp_path / "x.png", "x", lower=lower)
        pixels = cv2.imread(os.fspath(tmp_path / "x.png")).astype(int)
        assert [(np.abs(pixels - colour).sum(2) < 10).any() for colour in colours] == expected


def test_plot_says_what_the_model_is_not_for(tmp_path):
    """Below the curves, which keep their height; any text is shown as it is."""
    heights = []
    for remarks in ((), ("model: not for photographs $x$", "video: 3 of 3 frames " * 12)):
        path = tmp_path / f"{len(remarks)}.png"
        clip.plot([0, 1], [0.2, 0.9], 0.5, path, "x", remarks)
        with Image.open(path) as image:
            heights.append(image.size[1])
            pixels = np.asarray(image.convert("L"))
    assert heights[1] > heights[0] + 3 * 10
    assert pixels[-60:].min() < 100  # text
