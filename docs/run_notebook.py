"""Run a notebook without Jupyter and write its outputs into it:

    python docs/run_notebook.py examples/predict.ipynb RUN=runs/demo/ela PICTURES=data/sample

Values named on the command line replace those that the cell tagged "parameters" sets.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run(path: Path, values: Mapping[str, str]) -> list[list[dict[str, Any]]]:
    """Execute a notebook's code cells in one namespace.

    Args:
        path: of the notebook.
        values: instead of those of the cell tagged "parameters", by name.

    Returns:
        The outputs of each code cell, as nbformat 4 stores them: what it prints, and the value of
        an expression at its end.
    """
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
             if cell["cell_type"] == "code"]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for number, cell in enumerate(cells, 1):
        outputs.append(_outputs("".join(cell["source"]), f"cell {number}", namespace, number))
        if "parameters" in cell["metadata"].get("tags", ()):
            if unknown := values.keys() - namespace.keys():
                raise SystemExit(f"the notebook sets no {', '.join(sorted(unknown))}")
            namespace.update(values)
    return outputs


def _outputs(source: str, name: str, namespace: dict[str, Any], count: int) -> list[dict[str, Any]]:
    body = ast.parse(source, name).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), name, "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream",
                        "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
        png = getattr(value, "_repr_png_", lambda: None)()  # of Pillow's images
        if png:
            data = {"image/png": base64.b64encode(png).decode(), "text/plain": ["<picture>"]}
        outputs.append({"data": data, "execution_count": count, "metadata": {},
                        "output_type": "execute_result"})
    return outputs


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit((__doc__ or "").strip())
    path = Path(sys.argv[1])
    if not path.is_file() or any("=" not in word for word in sys.argv[2:]):
        sys.exit(f"there is no notebook {path}, or not all other words are NAME=VALUE; see --help")
    outputs = iter(enumerate(run(path, dict(word.split("=", 1) for word in sys.argv[2:])), 1))
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"], cell["outputs"] = next(outputs)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
