"""The contents of a folder of recordings as a short table."""

import re
from collections import Counter, defaultdict

from wavegen.data.clips import ClipSet, classes_of, some
from wavegen.data.folders import count
from wavegen.data.splits import SPLITS
from wavegen.utils.text import display


def summary(clip_set: ClipSet, sample_rate: int) -> str:
    """Return the clips as a short table, with the files left out and the reasons.

    `sample_rate` (Hz) is that of training.
    """
    clips = clip_set.clips
    groups = [(split, clip_set.of(split)) for split in SPLITS]
    rows = [("", "clips", "h:mm:ss", "classes")]
    for title, group in [*((s, g) for s, g in groups if g), ("all", clips)]:
        seconds = round(sum(clip.info.frames / clip.info.sample_rate for clip in group))
        length = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        classes = ", ".join(f"{len(names)} {key}" for key, names in classes_of(group).items())
        rows.append((title, str(len(group)), length, classes or "none"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"
        for row in rows
    ]
    rates = Counter(clip.info.sample_rate for clip in clips)
    resampled = [f"{n} from {rate}" for rate, n in sorted(rates.items()) if rate != sample_rate]
    lines += ["", f"sample rate: {sample_rate} Hz"]
    if resampled:
        lines[-1] += f" (resampled: {', '.join(resampled[:5])}{', ...' * (len(resampled) > 5)})"
    for attribute, names in clip_set.attributes.items():
        counts = Counter(clip.labels.get(attribute) for clip in clips)
        listed = ", ".join(f"{name} ({counts[name]})" for name in names[:12])
        more = f", and {len(names) - 12} more" if len(names) > 12 else ""
        lines.append(f"{attribute}: {listed}{more}")
    if clip_set.skipped:
        lines.append(f"left out: {count(len(clip_set.skipped), 'file')}")
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for skipped in clip_set.skipped:
            # Figures are in brackets; without them equal reasons are counted together.
            by_reason[re.sub(r" \(.*?\)", "", skipped.reason)].append(skipped.name)
        lines += [f"  {len(found)}: {why}: {some(found)}" for why, found in by_reason.items()]
    lines += [f"note: {note}" for note in clip_set.notes]
    return "\n".join(map(display, lines))
