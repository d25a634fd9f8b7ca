"""The page that goes with an exported model."""

from __future__ import annotations

from typing import Any

from hpc_deepfake.core.text import percent, probability
from hpc_deepfake.export.recipe import Step
from hpc_deepfake.export.runtimes import Runtime
from hpc_deepfake.network import decision
from hpc_deepfake.network.card import Card

NAME = "README.md"


def text(runtime: Runtime, card: Card, described: dict[str, Any]) -> str:
    """The page.

    Args:
        runtime: where the model runs.
        card: of the model, as it is used.
        described: content of ``card.json``.
    """
    given, check = described["input"], described["check"]
    zone = "" if card.lower is None else \
        f", and from {probability(card.lower)} to below that is undecided"
    how = decision.how(card.threshold_chosen or {})
    temperature = "There is no temperature to apply." if card.temperature == 1 else \
        f"The calibration by temperature {card.temperature:.4g} is inside: do not apply it again."
    return "\n".join([
        "# Detector of tampered pictures", "",
        f"`{runtime.file}` for {runtime.title}, made by hpc_deepfake "
        f"{described['made_by']['hpc_deepfake']}; `card.json` says the same for programs.", "",
        "## What its answers are worth", "",
        *(f"- {_sentence(caveat)}" for caveat in described["caveats"]),
        *([f"- Trained on {card.source}."] if card.trained_on else []), *_validation(card), "",
        "## Try it", "", "```",
        f"pip install numpy opencv-python-headless pillow {runtime.package}",
        "python predict.py check.jpg", "```", "",
        f"This must print {check['probability']:.6f}. `predict.py` needs nothing of hpc_deepfake: "
        "copy from it.", "",
        "## Input and output", "",
        f"Input `{given['name']}`: {given['dtype']} {_shape(given)}, the feature "
        f"`{given['feature']}` of n pictures, 0…255, {given['preprocessing'][-1]['channels']}. "
        "The model scales it itself.", "",
        f"Output `{described['output']['name']}`: {described['output']['dtype']} (n), the "
        f"probability that a picture was tampered with. From {probability(card.threshold)} on it "
        f"counts as tampered{zone}{'; chosen ' + how if how else ''}. {temperature}", "",
        *_map(described),
        "## From a picture to the input", "",
        *(f"{number}. {_step(step)}" for number, step in enumerate(given["preprocessing"], 1)), "",
        "Your own preparation is right if it turns `check.jpg` into `check-feature.png`"
        f"{', which has the stacked parts side by side' * (given['shape'][3] > 3)}, pixel by "
        "pixel. Another JPEG encoder or decoder gives other error levels: compare first.", "",
        "`predict.py` refuses pictures with more than 8 bits per channel, and Pillow turns a TIFF "
        "file by its orientation tag, which `hpc-deepfake predict` does not.", ""])


def _map(described: dict[str, Any]) -> list[str]:
    """What the second output is."""
    where = described.get("map")
    if where is None:
        return []
    return [f"Output `{where['name']}`: {where['dtype']} {_shape(where)}, {where['meaning']}. "
            f"From {where['threshold_level']}/255 on a pixel counts as changed. `mask` in "
            "`predict.py` brings it to the picture's own size. It is what a network concludes, not "
            "a proof: authentic pictures get areas too.", ""]


def _shape(given: dict[str, Any]) -> str:
    return "(" + ", ".join(map(str, given["shape"])) + ")"


def _sentence(caveat: str) -> str:
    return f"{caveat[0].upper()}{caveat[1:]}."


def _validation(card: Card) -> list[str]:
    figures = card.validation or {}
    if not figures.get("rows"):
        return []
    auc = figures.get("auc")
    return [f"- On its {figures['rows']} validation pictures: accuracy "
            f"{percent(figures.get('accuracy'))} (majority class "
            f"{percent(figures.get('majority'))})"
            + (f", ROC-AUC {auc:.3f}." if isinstance(auc, float) else ".")]


def _step(step: Step) -> str:
    """Such as ``compress: quality 90, subsampling 4:2:0 (JPEG, …)``."""
    values = ", ".join(f"{name} {_value(value)}" if name != "result" else str(value)
                       for name, value in step.items() if name not in ("step", "note"))
    note = f". {_sentence(step['note'])}" if "note" in step else ""
    return f"**{step['step']}**: {values}{note}"


def _value(value: object) -> str:
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, list) else str(value)
