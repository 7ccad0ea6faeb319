"""From the outputs of a network to probabilities and drawn codes.

Open `sampling` first.
"""
