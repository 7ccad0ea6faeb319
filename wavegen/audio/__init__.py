"""Audio files and pictures of audio: read, write, resample, plot.

Open `reading` first. Only this folder imports soundfile.
"""
