"""What a Python user touches; `wavegen` itself offers all of it.

The commands do the same to files and folders. Open `model` first.
"""
