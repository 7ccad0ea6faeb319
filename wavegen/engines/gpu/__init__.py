"""Engines for NVIDIA GPUs: CUDA graphs, and a kernel written in Triton.

Open `cuda_graph` first.
"""
