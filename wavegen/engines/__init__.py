"""Generation sample by sample with constant work per sample, and fast scoring.

`base` says what an engine offers, `reference` is the plain one that the others are tested
against, and `choice` picks one.
"""
