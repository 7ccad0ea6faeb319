"""Engines that numba compiles for the CPU of the user.

Open `wavenet_engine` first.
"""
