"""Configurations, networks, and the model directory.

Open `config` first, then `wavenet`.
"""
