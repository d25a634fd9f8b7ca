"""Preprocessing: folders of pictures to one shared HDF5 file of features, under MPI."""
