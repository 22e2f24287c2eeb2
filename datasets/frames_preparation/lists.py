"""Training, validation and test lists by contiguous stretches, so that no frame's neighbours are in another list."""

PARTS = ("train", "val", "test")


def shared_out(sequences, shares, margin):
    """Share sequences among the lists.

    Args:
        sequences: [(folder, number of frames)].
        shares: {"val": share, "test": share} of all frames; the rest trains.
        margin: frames that an item needs on both sides of its own.

    Returns:
        {part: [lines]}; parts whose share is 0 are left out, and a part may be empty when there are too few frames.
    """
    wanted = {"train": 1 - sum(shares.values()), **shares}
    least = 2 * margin + 1
    given, lines = dict.fromkeys(wanted, 0.0), {part: [] for part in wanted if wanted[part] > 0}
    total = sum(frames for _, frames in sequences)
    for folder, frames in sorted(sequences, key=lambda each: -each[1]):
        for part, first, last in _stretches(frames, lines, wanted, given, total, least):
            given[part] += last - first
            edge = 0 if part == "test" else margin
            lines[part] += [f"{folder} {frame} l" for frame in range(first + edge, last - edge)]
    return {part: sorted(each, key=_place) for part, each in lines.items()}


def _place(line):
    folder, number, _ = line.split()
    return folder, int(number)


def _stretches(frames, parts, wanted, given, total, least):
    """Return [(part, first, end)]: a long sequence is cut into one stretch a part, a short one goes to the neediest."""
    cut = {part: max(least, round(wanted[part] * frames)) for part in parts if part != "train"}
    if frames - sum(cut.values()) >= max(least, max(cut.values(), default=0)):
        stretches, end = [], frames
        for part, size in reversed(cut.items()):
            stretches.append((part, end - size, end))
            end -= size
        return [("train", 0, end), *stretches]
    lacking = {part: wanted[part] * total - given[part] + (0 if given[part] else total) for part in parts}
    neediest = "train" if not given["train"] else max(lacking, key=lacking.get)  # an empty list before all others
    return [(neediest, 0, frames)]
