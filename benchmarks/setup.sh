#!/usr/bin/env bash
# Creates .venv-benchmarks/, the environment of benchmarks/step.py and ranks.py: it sees the
# project's packages, and holds those that the project is compared with. Run env/setup.sh first.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
torch=2.13.0 tf_keras=2.21.0
# shellcheck source=env/activate.sh
source env/activate.sh
python -m venv --without-pip .venv-benchmarks
target=$(.venv-benchmarks/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$target/project.pth"
# the CPU build of PyTorch where an index has it, and no second TensorFlow
python -m pip install --quiet --target "$target" --no-deps --upgrade \
    "torch==$torch" "tf_keras==$tf_keras" sympy mpmath networkx jinja2 markupsafe filelock fsspec
PYTHONPATH=$PWD .venv-benchmarks/bin/python -c '
import tensorflow, tf_keras, torch
print("TensorFlow", tensorflow.__version__, "tf_keras", tf_keras.__version__,
      "PyTorch", torch.__version__)'
