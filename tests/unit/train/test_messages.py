"""What a training prints."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hpc_deepfake.network.device import Device
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import messages


@pytest.mark.parametrize(("network", "shown"), [
    ("table", "(majority class 75.0%); sync on 2 ranks"),
    ("meso4", "(majority class 75.0%); meso4 by sync on 2 ranks"),
    ("/a b/mine.py:build", "; mine.py:build by sync on 2 ranks")])
def test_the_first_line_names_another_network_than_the_default(network: str, shown: str) -> None:
    rows = {"train": np.arange(8), "validation": np.arange(4), "test": np.arange(0)}
    data = SimpleNamespace(rows=rows.__getitem__, size=64, labels=np.array([0, 0, 0, 1] * 2))
    options = Namespace(strategy="sync", mesh="", data="f.h5", feature="ela", batch_size=16,
                        accumulate=1)
    line = messages.headline(2, 2, options, Settings(network=network), data,
                             Device("CPU", "EPYC", 1))
    assert line.startswith("ela of f.h5: 8 train + 4 validation images of 64 × 64 pixels")
    assert shown in line and line.endswith("global batch 32")


def test_a_run_that_is_resumed_says_where_it_is_no_longer_deterministic() -> None:
    """On GPUs, and only if something changes; runs of earlier versions were."""
    gpu, cpu = Device("GPU:0", "A100", 1), Device("CPU", "EPYC", 1)
    resumed = Namespace(resume=True, deterministic=False)
    for begun in ({}, {"deterministic": True}):
        assert "is not from here on" in messages.determinism(begun, resumed, gpu)
    assert messages.determinism({}, resumed, cpu) is None
    assert messages.determinism({"deterministic": False}, resumed, gpu) is None
    resumed.deterministic = True
    assert "is deterministic from here" in messages.determinism({"deterministic": False}, resumed,
                                                                gpu)
    assert messages.determinism({}, resumed, gpu) is None


def test_a_run_says_with_which_operations_its_steps_are_computed(monkeypatch) -> None:
    """If it could be faster, and if it is resumed with others than before; earlier versions had
    none."""
    def said(before: str | None, now: str, device: str = "CPU", **changes: object) -> str | None:
        monkeypatch.setattr(messages.blocks, "missing", lambda: "" if now else "they are not built")
        options = Namespace(resume=before is not None, compiled=True, strategy="sync")
        settings = Settings()
        for name, value in changes.items():
            if hasattr(settings, name):
                settings = replace(settings, **{name: value})
            else:
                setattr(options, name, value)
        environment = {} if before is None else {"ranks": [{"compiled": before} if before else {}]}
        return messages.compiled(environment, options, settings, Device(device, "it", 1), now)

    assert said(None, "AVX-512") is None
    assert said(None, "") == ("note: steps take longer without the compiled operations: they are "
                              "not built")
    assert said(None, "", compiled=False) is None
    for changes in ({"precision": "float64"}, {"network": "meso4"}, {"strategy": "mesh"},
                    {"device": "GPU:0"}):
        assert said(None, "", **changes) is None
    assert said("AVX2", "AVX-512") is None
    resumed = said("", "AVX-512")
    assert "TensorFlow's until now, and computes with compiled operations from" in resumed
    assert "(--no-compiled would keep them)" in resumed
    resumed = said("AVX-512", "")
    assert "compiled operations until now, and computes with TensorFlow's from" in resumed
    assert "--" not in resumed
    assert said("AVX-512", "", device="GPU:0") is None
