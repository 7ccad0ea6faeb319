"""The report on a model: generated clips compared with held-out ones.

Open `evaluate` first.
"""
