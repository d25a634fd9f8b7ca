"""Packages and metadata of the project.

`pip install .` installs what `predict`, `evaluate`, `inspect` and `audit` need, in wheels only;
`env/setup.sh` builds the environment for training on a cluster, and installs the clone in place.
"""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
version = re.search(
    r'^__version__ = "(.+?)"', (here / "hpc_deepfake" / "__init__.py").read_text(), re.MULTILINE
).group(1)
# Without kernels for GPUs, a third of the size, where that is a package of its own; env/setup.sh
# --gpu names the other one.
chosen = os.environ.get("HPC_DEEPFAKE_TENSORFLOW")
tensorflow = [chosen] if chosen else [
    "tensorflow-cpu>=2.18; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "tensorflow>=2.18; sys_platform != 'linux' or platform_machine != 'x86_64'",
]

setup(
    name="hpc-deepfake",
    version=version,
    description="Image forgery detection with parallel ELA preprocessing and distributed training",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the hpc_deepfake authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "image forensics",
        "image forgery detection",
        "error level analysis",
        "distributed training",
        "HPC",
        "MPI",
        "Horovod",
        "HDF5",
        "SLURM",
        "PBS",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Graphics",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["hpc_deepfake*", "preprocessing*"]),
    package_data={"hpc_deepfake": ["py.typed"], "preprocessing": ["py.typed"],
                  # compiled where they are used: python -m hpc_deepfake.network.blocks
                  "hpc_deepfake.network.blocks": ["*.cc", "*.h"]},
    python_requires=">=3.11,<3.14",
    # Lower bounds only: every version that was tested is pinned in env/versions.txt, a constraints
    # file (pip install -c env/versions.txt .).
    install_requires=[
        "h5py",
        "isal; platform_machine == 'x86_64' or platform_machine == 'aarch64'",  # faster checksums
        "keras>=3.10",
        "matplotlib",
        "numpy>=2",
        "opencv-python-headless>=4.10",
        "pillow>=11.3",
        "psutil",
        *tensorflow,
    ],
    # Horovod is compiled for the TensorFlow and MPI at hand, and patched: by env/setup.sh only.
    extras_require={
        "export": ["onnx", "onnxruntime", "tf2onnx"],
        "heic": ["pillow-heif>=1.8"],  # its wheels are under the GPL 2
        "mpi": ["mpi4py>=4"],
    },
    entry_points={"console_scripts": ["hpc-deepfake = hpc_deepfake.cli:main"]},
)
