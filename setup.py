"""Packages and metadata of the project; `env/setup.sh` installs the clone in place."""

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
    package_data={"hpc_deepfake": ["py.typed"], "preprocessing": ["py.typed"]},
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
        "psutil",
    ],
    entry_points={"console_scripts": ["hpc-deepfake = hpc_deepfake.cli:main"]},
)
