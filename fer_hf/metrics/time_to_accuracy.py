"""How long a run took to become how good."""

# On FER-2013: past most small nets, where the classroom reports end, people's own score, and honest single networks.
LEVELS = (0.5, 0.6, 0.63, 0.65, 0.67, 0.69, 0.71, 0.73)


def time_to_accuracy(validations: list[dict], levels: tuple[float, ...] = LEVELS) -> dict[float, float]:
    """
    When validation first reached each level, as DAWNBench counts it (Coleman et al., 2018,
    https://huggingface.co/papers/1806.01427): evaluations and checkpoints on the way are in the time.

    Args:
        validations (`list[dict]`): With `accuracy` in [0, 1] and `elapsed_seconds`; `validations` of a run record.
        levels (`tuple[float, ...]`): Accuracies to reach.

    Returns:
        `dict[float, float]`: Level to seconds, of those that were reached.
    """
    reached = {}
    for level in levels:
        seconds = [entry["elapsed_seconds"] for entry in validations if entry.get("accuracy", -1.0) >= level]
        if seconds:
            reached[level] = min(seconds)
    return reached
