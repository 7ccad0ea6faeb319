"""From the parameters that a network returns to probabilities and drawn codes.

Open `sampling` first.
"""
