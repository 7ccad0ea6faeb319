"""Waveforms to codes and back, and the windows of codes that a network sees.

Open `mulaw` first.
"""
