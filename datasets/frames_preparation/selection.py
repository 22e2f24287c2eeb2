"""Which frames of a source are worth training on, and where one sequence ends and the next begins."""

import collections
import dataclasses

KEEP, DROP, CUT = "keep", "drop", "cut"


@dataclasses.dataclass(frozen=True)
class Rules:
    """Thresholds, for the change since the last frame that was kept.

    Attributes:
        min_motion: pixels (of an image 640 wide) of median optical flow below which a frame is dropped.
        max_motion: above which a new sequence begins.
        scene: likeness below which the scene has changed.
        min_frames: sequences of fewer frames are dropped.
    """

    min_motion: float = 1.0
    max_motion: float = 80.0
    scene: float = 0.45
    min_frames: int = 3

    def judge(self, change):
        """Return (KEEP, DROP or CUT, why)."""
        if change.motion < self.min_motion:
            return DROP, "too little motion"
        if change.likeness < self.scene:
            return CUT, "scene change"
        if change.motion > self.max_motion:
            return CUT, "too much motion"
        return KEEP, ""


class Tally:
    """What became of a source's frames."""

    def __init__(self):
        self.read, self.kept, self.dropped, self.cuts, self.motions = 0, 0, collections.Counter(), [], []

    def lines(self, name, sequences, notices):
        """Return the report as lines of text."""
        median = sorted(self.motions)[len(self.motions) // 2] if self.motions else 0.0
        yield (f"{name}: {self.read} frames read, {self.kept} kept in {sequences} sequence{'s' * (sequences != 1)}, "
               f"median motion {median:.1f} pixels")  # fmt: skip
        for why, count in self.dropped.items():
            yield f"  {count} dropped: {why}"
        for why in sorted({why for why, _ in self.cuts}):
            times = [f"{seconds:.1f}" for reason, seconds in self.cuts if reason == why]
            yield f"  {len(times)} cuts: {why}, at {', '.join(times[:8])}{' ...' if len(times) > 8 else ''}"
        yield from (f"  note: {notice}" for notice in notices)
