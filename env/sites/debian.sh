# shellcheck shell=bash
# Debian and Ubuntu: Open MPI and parallel HDF5 come from apt, nothing to load. A site file
# does here what a machine needs before the environment: module load …, HDF5_DIR=…,
# HPC_DEEPFAKE_ENV=…, network settings of MPI.
:
