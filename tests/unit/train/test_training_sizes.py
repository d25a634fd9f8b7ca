"""Data of another size than the run's, or than the options say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_files import make_data

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.data.synthetic import synthetic
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import __main__ as train
from hpc_deepfake.train.options import parser
from hpc_deepfake.train.resume import _check_same


def refused(own: dict[str, Any], data: Any) -> str:
    with pytest.raises(InputError) as caught:
        _check_same(Path("run"), {"settings": Settings().as_dict(), "data": own}, Settings(), data)
    return str(caught.value)


def test_a_run_is_not_resumed_with_pictures_of_another_size(tmp_path: Path) -> None:
    """The message says both sizes; of the same size, that it is another file."""
    file = open_data(make_data(tmp_path / "x.h5"), "ela", "mmap")  # 16 × 16
    own = {**file.header.attributes, "ela": {"quality": 90, "size": 64}}
    assert f"of 64 × 64 pixels, and those of {tmp_path / 'x.h5'} have 16 × 16: give that run's " \
           "data file" in refused(own, file)
    assert "another data file" in refused({**file.header.attributes, "seed": 9}, file)
    drawn = synthetic(8, "ela", 0, 96)
    assert "of 128 × 128 pixels, and those of --synthetic have 96 × 96: give --size 128" \
        in refused(synthetic(8, "ela", 0).header.attributes, drawn)
    assert "another data file" in refused(replace(drawn.header, attributes={
        **drawn.header.attributes, "seed": 5}).attributes, drawn)


@pytest.mark.parametrize(("begun", "given", "named"), [
    (Settings(network="meso4", dropout=None), Settings(), "with --network meso4"),
    (Settings(), Settings(network="meso4", dropout=None), "with --network table"),
    (Settings(network="unet", dropout=None), Settings(network="meso4", dropout=None),
     "with --network unet"),
    (Settings(network="meso4", dropout=0.3), Settings(),
     "with --network meso4 and with --dropout 0.3"),
    (Settings(network="meso4", dropout=None), Settings(network="meso4", dropout=0.3),
     "without --dropout"),
    (Settings(rate_schedule="cosine", rate_epochs=1),
     Settings(rate_schedule="cosine", rate_epochs=2),
     r"with --rate-epochs 1 \(where its cosine schedule ends: --epochs, unless given\)")])
def test_a_resume_names_the_options_that_the_user_gave(
        begun: Settings, given: Settings, named: str) -> None:
    """Not the rate of dropout that follows from the network."""
    data = synthetic(8, "ela", 0)
    meta = {"settings": begun.as_dict(), "data": data.header.attributes}
    with pytest.raises(InputError, match=f"was started {named}; give the same options"):
        _check_same(Path("run"), meta, given, data)


def test_size_is_for_synthetic_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's own size may be named, another one is refused."""
    monkeypatch.setattr(train.mpi, "on_root", lambda comm, work: work())
    path = make_data(tmp_path / "x.h5")
    words = ["--data", str(path), "--run", str(tmp_path / "run")]
    comm: Any = None
    with pytest.raises(InputError, match=r"--size 64: .*x.h5 has pictures of 16 × 16\. Leave"):
        train._open(comm, parser().parse([*words, "--size", "64"]))
    drawn = parser().parse(["--synthetic", "8", "--size", "64", "--run", str(tmp_path / "run")])
    assert train._open(comm, drawn).size == 64
