"""From a folder of recordings to batches: clips, labels, splits, decoding, stores, shards.

Open `clips` first. `settings` holds how a data set is read; it is saved with a model.
"""
