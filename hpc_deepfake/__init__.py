"""Distributed training and evaluation of a CNN that tells tampered pictures from authentic ones."""

__version__ = "0.1.0"
