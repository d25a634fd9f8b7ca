"""The pages of ``inspect``: what they say, that they stand alone, and what the command answers."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pages import Page, check_alone
from PIL import Image
from test_inspect_analyses import REGION, decoded, jpeg, moved, png, texture
from test_inspect_analyses import page as drawn_page

import hpc_deepfake.inspect
from hpc_deepfake.inspect import analysis, metadata, verdict
from hpc_deepfake.inspect.document import document
from hpc_deepfake.inspect.view import View, turn
from hpc_deepfake.predict.where import Where

CONTROLS = frozenset({"script", "label", "input", "fieldset", "legend", "polygon"})
EVIL = '<script>alert(1)</script>"\'&\u202e'


def exif(**texts: str) -> Image.Exif:
    """Metadata with a camera, dates, a position west of Greenwich, and these texts by tag name."""
    block = Image.Exif()
    block[0x0110], block[0x0132] = "Camera", "2020:01:02 00:00:00"
    for name, value in texts.items():
        block[{"software": 0x0131, "description": 0x010E}[name]] = value
    block.get_ifd(0x8769)[0x9003] = "2019:01:01 00:00:00"
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.0), 3: "W", 4: (11.0, 34.0, 30.0)})
    return block


def page_of(data: bytes, name: str = "a.jpg", said: verdict.Verdict | None = None
            ) -> tuple[str, Page]:
    html = document(name, analysis.analyse(data), said)
    return html, Page(html)


@pytest.fixture(scope="module")
def forged() -> tuple[str, Page]:
    """The page of a picture with a cloned area, saved twice, with hostile metadata."""
    pixels, _, _ = moved(decoded(jpeg(texture(20), 60)), 0, 1)
    return page_of(jpeg(pixels, 90, exif=exif(software=f"Photoshop {EVIL}", description=EVIL),
                        comment=b"</style><img src=x onerror=alert(1)>"), f"{EVIL}.jpg")


def test_the_page_stands_alone(forged: tuple[str, Page]) -> None:
    html, page = forged
    check_alone(page, html, CONTROLS)
    assert re.findall("<script", html) == ["<script"]
    script = re.search("<script>(.*?)</script>", html, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_what_a_file_says_is_text_only(forged: tuple[str, Page]) -> None:
    html, page = forged
    assert "alert(1)" in page.text("what-the-file-says") and "<script>alert" not in html
    assert "\u202e" not in html and "\\u202e" in html
    assert not [tag for tag, attributes in page.elements if "onerror" in attributes]


def test_the_page_says_what_stands_out(forged: tuple[str, Page]) -> None:
    html, _ = forged
    found = html.split('class="stands-out"')[1].split("</ul>")[0]
    for words in ("Photoshop", "dates differ: taken 2019:01:01", "position of the camera (GPS)",
                  "compressed as JPEG before", "Two areas have the same content"):
        assert words in found
    assert "48.13750° N, 11.57500° W" in html


def test_a_ghost_and_traces_lie_on_the_picture(forged: tuple[str, Page]) -> None:
    """The map of the quality at which an area changes least, and that of the blocks' history."""
    pixels = texture(8)
    pixels[REGION] = decoded(jpeg(texture(9), 60))[REGION]
    html, page = page_of(jpeg(pixels, 92))
    assert "Difference after compression at quality 60" in page.text("the-picture")
    assert "ghost at quality 60" in html.split('class="stands-out"')[1].split("</ul>")[0]
    assert "traces of the earlier compression" in forged[1].text("the-picture")


def test_an_untouched_picture_is_not_called_authentic() -> None:
    html, _ = page_of(jpeg(texture(21), 85))
    assert "Nothing stands out. That doesn&#x27;t say that the picture is authentic" in html
    assert "85: luminance table of the IJG" in html and "4:2:0" in html


def test_every_analysis_says_what_it_cannot_show_and_its_source(forged: tuple[str, Page]) -> None:
    _, page = forged
    for section in ("the-picture", "what-the-file-says", "double-compression", "jpeg-ghosts",
                    "copy-move-candidates", "noise"):
        text = page.text(section)
        assert re.search("[Ss]hows? ", text) and "Doesn't show" in text and "Source:" in text


def test_a_verdict_comes_with_its_caveats_and_without_a_number_where_it_means_nothing() -> None:
    prediction = SimpleNamespace(verdict="unlike training", probability=0.987, notes=("renamed",),
                                 unlike=("never a JPEG file",), where=None)
    card = SimpleNamespace(threshold=0.8, lower=0.3, feature="ela", source="36 pictures of X")
    model = SimpleNamespace(predict=lambda data: iter([prediction]), card=card, path=Path("run"),
                            caveats=("trained on drawn sample pictures",))
    said = verdict.of(model, b"")  # type: ignore[arg-type]
    html, page = page_of(jpeg(texture(22, 64, 96), 85), said=said)
    text = page.text("verdict-of-the-model")
    assert "The model says: unlike training" in html.split("<section")[0]
    for words in ("unlike training", "never a JPEG file", "Renamed.", "36 pictures of X",
                  "trained on drawn sample pictures", "authentic below 30.0%, tampered from 80.0%"):
        assert words in text
    assert "98.7" not in text
    prediction.unlike, prediction.verdict = (), "tampered"
    html, page = page_of(jpeg(texture(22, 64, 96), 85),
                         said=verdict.of(model, b""))  # type: ignore[arg-type]
    assert "98.7%" in page.text("verdict-of-the-model")
    head = html.split("<section")[0]
    assert ("The model says: tampered (98.7% probability of tampered; authentic below 30.0%, "
            "tampered from 80.0%)") in head
    assert "Apart from that, nothing stands out" in head


def test_a_verdict_that_looks_like_its_opposite_says_its_threshold_beside_it() -> None:
    said = verdict.Verdict("authentic", 0.523, (), (), (), "ela", "X", "tampered from 71.2%", "run")
    html, _ = page_of(jpeg(texture(22, 64, 96), 85), said=said)
    assert "<b>authentic</b><span>verdict: tampered from 71.2%</span>" in html


def test_the_map_of_a_model_lies_on_the_picture_as_it_is_shown() -> None:
    """Turned with it; where it says so, what it calls changed is found, unless the verdict is
    authentic or the picture is unlike those that it knows."""
    levels = np.zeros((64, 64), np.uint8)
    levels[:16, :16] = 200  # at the upper left as stored, at the upper right as shown
    where = Where(levels, 150, (120, 200))
    data = jpeg(texture(22, 120, 200), 85, exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\x01"
                b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    found = analysis.analyse(data)
    assert found.said.orientation == 6
    said = verdict.Verdict("tampered", 0.9, (), (), (), "ela", "X", "tampered from 50%", "run",
                           where)
    html, page = page_of(data, said=said)
    assert "The model calls 6.2% of the picture, at the upper right, changed" in html
    assert "It calls 6.2% of the picture changed" in page.text("verdict-of-the-model")
    layer = re.search('src="data:image/jpeg;base64,([^"]*)" alt="Where the model says', html)
    assert layer is not None
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(layer[1])))).astype(int)
    assert drawn.shape == (200, 120, 3)
    red = drawn[..., 0] - drawn[..., 2]
    assert red[5:40, 100:115].min() > 60 and np.abs(red[80:]).max() < 12
    for other in (replace(said, verdict="authentic"), replace(
            said, verdict="unlike training", unlike=("small",), probability=None)):
        html, page = page_of(data, said=other)
        assert "The model calls" not in html and "Where the model says" in html
        assert ("It calls" in html) == (not other.unlike)
        assert ("the map means nothing" in html) == bool(other.unlike)


def test_a_drawn_picture_is_said_to_be_one_at_the_top_and_in_each_section() -> None:
    html, page = page_of(png(drawn_page()), "page.png")
    for part in (html.split("<section")[0], page.text("double-compression"),
                 page.text("jpeg-ghosts"), page.text("copy-move-candidates")):
        assert "drawn by a program" in part


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_and_points_are_turned_alike(orientation: int) -> None:
    stored = np.zeros((40, 60), np.uint8)
    stored[5, 50] = 255
    upright = turn(stored, orientation)
    view = View(60, 40, orientation)
    assert view.size == upright.shape[::-1]
    (x, y), = view.points(np.array([[50, 5]]))
    assert upright[y, x] == 255
    block = Image.Exif()
    block[0x0112] = orientation
    data = jpeg(cv2.cvtColor(stored, cv2.COLOR_GRAY2RGB), 90, exif=block)
    said = metadata.read(data)
    assert said.orientation == orientation


def test_large_pictures_are_shown_reduced_and_that_is_said() -> None:
    view = View(10_000, 5_000, 6)
    width, height = view.shown
    assert width * height <= 16_100_000 and height == pytest.approx(2 * width, abs=2)
    assert View(4000, 3000, 1).shown == (4000, 3000)


@pytest.mark.parametrize("form", ["L", "CMYK", "I;16", "P", "animated", "webp", "blank", "tiny"])
def test_unusual_pictures_get_a_page(form: str) -> None:
    file, image = io.BytesIO(), Image.fromarray(texture(23, 80, 120))
    said = {"L": "none: grey", "CMYK": "converted", "I;16": "upper 8", "P": "few grey levels",
            "animated": "only the first", "webp": "WEBP itself covers", "blank": "few grey levels",
            "tiny": "too small"}[form]
    if form in ("L", "CMYK"):
        image.convert(form).save(file, "JPEG")
    elif form == "I;16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(file, "PNG")
    elif form == "P":
        image.quantize(8).save(file, "PNG")
    elif form == "animated":
        image.save(file, "GIF", save_all=True, append_images=[image.rotate(90)])
    elif form == "webp":
        image.save(file, "WEBP")
    elif form == "blank":
        Image.new("RGB", (120, 80), "white").save(file, "PNG")
    else:
        image.resize((5, 4)).save(file, "JPEG")
    html, page = page_of(file.getvalue())
    check_alone(page, html, CONTROLS)
    assert said in page.text()


def test_damaged_metadata_are_said_and_the_rest_is_read() -> None:
    data = bytearray(jpeg(texture(24, 64, 96), 80, exif=exif(software="Editor")))
    start = data.index(b"Exif\0\0") + 6
    data[start + 12:start + 200] = b"\xff" * 188
    said = metadata.read(bytes(data))
    assert (said.width, said.height, said.format) == (96, 64, "JPEG") and said.tables
    assert metadata.read(bytes(data) + bytes(500)).trailing == 500


def test_the_command_writes_pages_and_a_list_and_names_what_it_could_not_read(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "empty").mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "photo.jpg").write_bytes(jpeg(texture(25, 64, 96), 80))
    (tmp_path / "a" / "broken.jpg").write_bytes(jpeg(texture(25, 64, 96), 80)[:500])
    odd = tmp_path / "b" / '<b>"&\'.jpg'
    odd.write_bytes(jpeg(texture(26, 64, 96), 80))
    out = tmp_path / "pages"
    assert hpc_deepfake.inspect.main(["--out", str(out), str(tmp_path / "a"),
                                      str(tmp_path / "b"), str(tmp_path / "empty")]) == 2
    assert f"no pictures in {tmp_path / 'empty'}" in caplog.text
    names = sorted(path.name for path in out.iterdir())
    assert names == ["_b____.jpg.html", "index.html", "photo.jpg-2.html", "photo.jpg.html"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(out / "index.html") and len(printed) == 4
    html = (out / "index.html").read_text()
    page = Page(html)
    assert {"photo.jpg.html", "photo.jpg-2.html", "_b____.jpg.html"} <= set(
        page.attributes("a", "href"))
    assert "broken.jpg" in page.text("not-read") and "<b>&quot;" not in html


@pytest.mark.parametrize(("own", "name"), [
    ("ü 漢字 😀.jpg", "ü_漢字__.jpg.html"), ("हिन्दी.jpg", "हिन्दी.jpg.html"),
    ("u\u0308.jpg", "ü.jpg.html"), ("..", "picture.html"), (".jpg", "jpg.html"),
    ("-rf \u202e\n\\&.png", "rf_____.png.html"), (b"\xff\xfe.jpg", "__.jpg.html")])
def test_pages_keep_the_letters_of_every_script(own: str | bytes, name: str) -> None:
    path = own.encode() if isinstance(own, str) else own
    assert hpc_deepfake.inspect._names([b"folder/" + path]) == [name]


def test_names_of_pages_fit_into_a_file_system_and_differ_in_more_than_case() -> None:
    long = "漢" * 80 + "𠀀" * 60 + ".jpg"
    names = hpc_deepfake.inspect._names([long.encode(), long.encode(), "Ä.jpg".encode(),
                                         "a\u0308.jpg".encode(), b"INDEX.HTML", b"index"])
    assert max(len(name.encode()) for name in names) <= 255 and names[0].endswith(".jpg.html")
    assert len({name.casefold() for name in [*names, "index.html"]}) == 7


def test_without_a_model_neither_tensorflow_nor_mpi_is_needed(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg(texture(27, 64, 96), 80))
    program = ("import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'keras', 'mpi4py', "
               "'horovod', 'matplotlib', 'h5py')))\n"
               "sys.argv = ['hpc-deepfake', 'inspect', 'photo.jpg']\n"
               "from hpc_deepfake.cli import main\nmain()")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "inspect/photo.jpg.html\n"), done.stderr
    assert (tmp_path / "inspect" / "photo.jpg.html").stat().st_size > 10_000
