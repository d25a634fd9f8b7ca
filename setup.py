"""Packages of the project; `env/setup.sh` installs the clone in place."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
version = re.search(
    r'^__version__ = "(.+?)"', (here / "hpc_deepfake" / "__init__.py").read_text(), re.MULTILINE
).group(1)

setup(
    name="hpc-deepfake",
    version=version,
    description="Image forgery detection with parallel ELA preprocessing and distributed training",
    packages=find_packages(include=["hpc_deepfake*", "preprocessing*"]),
    python_requires=">=3.11,<3.14",
    # Names only: every version is pinned in env/versions.txt. TensorFlow (CPU or GPU
    # package) and Horovod (built for that TensorFlow) are left to env/setup.sh.
    install_requires=[
        "h5py",
        "keras",
        "matplotlib",
        "mpi4py",
        "numpy",
        "opencv-python-headless",
        "pillow",
    ],
    entry_points={"console_scripts": ["hpc-deepfake = hpc_deepfake.cli:main"]},
)
