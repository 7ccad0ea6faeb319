"""wavegen: train, generate from and score with autoregressive models of audio.

Importing this package loads neither torch nor any other heavy dependency; each
module imports what it needs.
"""

__version__ = "0.1.0"
