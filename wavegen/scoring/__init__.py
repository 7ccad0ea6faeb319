"""From recordings to bits per sample, classes and anomalies.

Open `likelihood` first, then `score`.
"""
