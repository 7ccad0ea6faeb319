"""From a folder of recordings to batches: clips, labels, splits, decoding, stores, shards.

Open `clips` first.
"""
