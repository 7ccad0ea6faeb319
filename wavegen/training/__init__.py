"""Everything that uses Lightning: module, data module, callbacks, checkpoints, run folders.

Open `lightning_module` first, then `run_folder`.
"""
