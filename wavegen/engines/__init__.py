"""Generation sample by sample with constant work per sample, and fast scoring.

`base` is the contract of engines, `reference` the simple engine that the others are tested
against, and `choice` selects one.
"""
