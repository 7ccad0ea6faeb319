"""Waveforms to codes and back, and the windows of codes that a network sees.

Open `codec` first: the contract, which `mulaw` keeps.
"""
