"""The network, its training and a trained model's files."""

from hpc_deepfake.core.surroundings import for_keras

for_keras()  # before any module here, or a strategy, imports Keras
