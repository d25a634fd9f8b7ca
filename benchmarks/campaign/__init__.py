"""Faults injected into running programs (benchmarks/faults.py), and what must hold afterwards."""
