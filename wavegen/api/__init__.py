"""The Python interface; the package `wavegen` exports all of it.

The commands do the same for files and folders. Open `model` first.
"""
