"""Distributed training and evaluation of a CNN that detects tampered pictures."""

__version__ = "0.2.0"
