"""Detection of tampered pictures: error level analysis and a CNN, trained on one machine or a
cluster.

In Python, a trained model predicts pictures::

    import hpc_deepfake

    model = hpc_deepfake.load("runs/first")
    for prediction in model.predict(["photo.jpg", "holiday/", "clip.mp4"]):
        print(prediction.path, prediction.verdict, prediction.probability)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from hpc_deepfake.predict.library import Model

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def load(run: str | os.PathLike[str], *, device: str = "auto",
         threshold: float | tuple[float, float] | None = None) -> Model:
    """A trained model that predicts pictures and videos, with the results of ``hpc-deepfake
    predict``. Needs no MPI. The first call starts TensorFlow, unless it is at work already.

    Args:
        run: run directory of the trained model, the folder of an ensemble, or a ``.keras`` file.
            Its card, ``model.json``, is read from beside it.
        device: ``cpu``, which hides GPUs from this process, ``gpu``, or ``auto``: a GPU if
            TensorFlow sees one.
        threshold: probability from which a picture is predicted tampered; or two of them, and
            pictures in between are undecided. The model's by default.

    Raises:
        hpc_deepfake.core.errors.InputError: there is no such model, it is damaged or predicts
            something else; or there is no such device.
        ValueError: ``device`` or ``threshold`` is none.
    """
    import cv2
    from PIL import Image

    # which the programs set for themselves; here they are the caller's
    pixels, threads = Image.MAX_IMAGE_PIXELS, cv2.getNumThreads()
    from hpc_deepfake.predict.library import Model

    Image.MAX_IMAGE_PIXELS = pixels
    cv2.setNumThreads(threads)
    return Model(run, device, threshold)
