"""From requests to waveforms and WAV files.

Open `generate` first, then `wav_files` and `resynthesis`.
"""
