"""The engine and the scorer that numba compiles for the CPU.

Open `wavenet_engine` first.
"""
