"""From folders of pictures to one shared HDF5 file of error level analysis features, under MPI."""
