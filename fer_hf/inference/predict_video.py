"""`fer-hf predict` of a video: what its faces show over time, frame by frame as they come."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from math import ceil, exp
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from fer_hf.bars import Bar
from fer_hf.errors import BadInputError
from fer_hf.files import check_output, whole
from fer_hf.inference.pipeline import FacialExpressionPipeline
from fer_hf.inference.predict import Places, cut_face, summary
from fer_hf.inference.results import FRAME, check_results, write_faces
from fer_hf.inference.video import Frame, Video, marked_video
from fer_hf.plots import draw_faces, plot_timeline
from fer_hf.words import plural


# The same face: a box that has at least this share (intersection over union) in common with where it was last seen,
# and that not longer ago than so many seconds.
MIN_OVERLAP, MAX_GAP = 0.3, 1.0
# Of the timeline: steps in time; faces that it shows; and faces that are kept for it, which bounds its memory.
MAX_STEPS, MAX_SHOWN, MAX_KEPT = 400, 6, 100


def check_video(path: str, places: Places) -> None:
    """
    Refuse, before a model is loaded, what cannot be read, and what cannot or must not be written.

    Args:
        path (`str`): The video.
        places (`Places`): As for [`predict_video`].

    Raises:
        BadInputError: In one line.
    """
    if places.resume:
        raise BadInputError("`resume` is for photos: a video is read from its beginning.")
    check_results(places.output, False, places.overwrite, [path])
    for flag, place, suffix in (("annotate", places.annotate, ".mp4"), ("plot", places.plot, ".png")):
        if place is not None:
            if place.suffix != suffix:
                raise BadInputError(f"`{flag}` must end in {suffix} for a video, got {place}.")
            check_output(flag, place, places.overwrite, [path])
    with Video(path):
        pass


def predict_video(
    classifier: FacialExpressionPipeline,
    path: str,
    places: Places,
    every_seconds: float | None = None,
    smooth_seconds: float | None = None,
    batch_size: int = 16,
    disable_tqdm: bool = False,
) -> None:
    """
    Find the faces in a video, and write what they show over time.

    Args:
        classifier (`FacialExpressionPipeline`): From [`~fer_hf.inference.predict.load_pipeline`].
        path (`str`): The video.
        places (`Places`): Where to write; [`check_video`] has passed them. `annotate` is an MP4 with the faces
            marked, and `plot` a PNG of the probabilities over time.
        every_seconds (`float`, *optional*): Take a frame in each such span of time only.
        smooth_seconds (`float`, *optional*): As for [`FaceTracks`].
        batch_size (`int`, defaults to 16): Frames at a time.
        disable_tqdm (`bool`, defaults to `False`): Show no progress bar.

    Raises:
        BadInputError: At the end, if the video is cut off or damaged.
    """
    labels = list(classifier.model.config.id2label.values())
    tracks, timeline, expressions = FaceTracks(smooth_seconds), Timeline(), Counter()
    with Video(path, every_seconds) as video, ExitStack() as stack:
        mark = places.annotate and stack.enter_context(marked_video(places.annotate))

        def found() -> Iterator[tuple[dict, list[dict]]]:
            for frame, faces in _answers(classifier, video, batch_size, disable_tqdm):
                faces = tracks.follow(faces, frame.seconds)
                expressions.update(face["expression"] for face in faces)
                timeline.add(frame, faces)
                if mark:
                    mark(draw_faces(frame.image, faces), frame.seconds)
                yield {"frame": frame.number, "seconds": round(frame.seconds, 3)}, faces

        if places.output:
            write_faces(places.output, found(), labels, FRAME)
        else:
            deque(found(), maxlen=0)
    if places.plot and timeline.sums:
        timeline.plot(labels, video.end, tracks.count, places.plot)
    head = f"{plural(timeline.num_frames, 'frame')} in {video.end:.1f} s, {plural(tracks.count, 'face')}"
    print(summary(head, expressions))
    places.say_written(with_plot=bool(timeline.sums))
    if damage := video.damage():
        raise BadInputError(damage)


def _answers(
    classifier: FacialExpressionPipeline, video: Video, batch_size: int, disable_tqdm: bool
) -> Iterator[tuple[Frame, list[dict]]]:
    """Each frame with its faces. The bar goes by the video's time."""
    frames, length = iter(video), video.duration and ceil(video.duration)
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} s [{elapsed}<{remaining}]"
    with Bar(total=length, desc="video", bar_format=form, disable=disable_tqdm) as bar:
        while batch := list(islice(frames, batch_size)):
            yield from zip(batch, classifier([frame.image for frame in batch], batch_size=batch_size), strict=True)
            bar.update(round(video.end) - bar.n)
        if length and not video.damage():  # as whole seconds, the last frame's end and the length may differ
            bar.update(length - bar.n)


class FaceTracks:
    """
    Numbers that faces keep from frame to frame, as long as their boxes overlap.

    Args:
        smooth_seconds (`float`, *optional*): Average the probabilities of each face with those before, whose weight
            falls to 1/e in so many seconds.
    """

    def __init__(self, smooth_seconds: float | None = None):
        self.smooth_seconds, self.count, self.before = smooth_seconds, 0, 0.0
        self.seen: dict[int, tuple[float, dict]] = {}  # when and how each face was seen last

    def follow(self, faces: list[dict], seconds: float) -> list[dict]:
        """
        Args:
            faces (`list[dict]`): Of the next frame, as the pipeline gives them.
            seconds (`float`): When.

        Returns:
            `list[dict]`: The same, each with its number as `face`, and smoothed if asked for.
        """
        # What was in the frame before is not forgotten, however long ago that was.
        since = min(self.before, seconds - MAX_GAP)
        self.seen = {number: last for number, last in self.seen.items() if last[0] >= since}
        known, followed = self._known(faces), []
        for index, face in enumerate(faces):
            number = known.get(index, self.count)
            if number == self.count:
                self.count += 1
            elif self.smooth_seconds:
                when, last = self.seen[number]
                face = _blended(last, face, exp((when - seconds) / self.smooth_seconds))
            self.seen[number] = seconds, face
            followed.append({"face": number, **face})
        self.before = seconds
        return followed

    def _known(self, faces: list[dict]) -> dict[int, int]:
        """The number of each face that was seen before, by its index."""
        numbers = list(self.seen)
        overlap = box_iou(_boxes(faces), _boxes(face for _, face in self.seen.values())).numpy()
        pairs = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
        return {int(index): numbers[other] for index, other in pairs if overlap[index, other] >= MIN_OVERLAP}


def _boxes(faces: Iterable[dict]) -> torch.Tensor:
    return torch.tensor([list(face["box"].values()) for face in faces]).reshape(-1, 4)


def _blended(last: dict, face: dict, weight: float) -> dict:
    """A face whose probabilities are to the share `weight` those of last time."""
    scores = {name: weight * last["scores"][name] + (1 - weight) * score for name, score in face["scores"].items()}
    expression = max(scores, key=scores.get)
    return {**face, "expression": expression, "score": scores[expression], "scores": scores}


class Timeline:
    """The mean probabilities of faces over time, in at most [`MAX_STEPS`] steps of as many frames each."""

    def __init__(self):
        self.num_frames, self.frames_per_step = 0, 1
        self.starts: list[float] = []  # of each step, in seconds
        self.sums: dict[int, dict[int, np.ndarray]] = {}  # by face and step: its frames, and its probabilities
        self.images: dict[int, Image.Image] = {}

    def add(self, frame: Frame, faces: list[dict]) -> None:
        """Note the faces of the next frame."""
        if self.num_frames == MAX_STEPS * self.frames_per_step:
            self._halve()
        step, place = divmod(self.num_frames, self.frames_per_step)
        if place == 0:
            self.starts.append(frame.seconds)
        for face in faces:
            number = face["face"]
            if number not in self.sums:
                self.sums[number], self.images[number] = {}, cut_face(frame.image, face)
                self.images[number].thumbnail((96, 96))
            _add(self.sums[number], step, np.array([1, *face["scores"].values()]))
        self.num_frames += 1
        if len(self.sums) > MAX_KEPT:
            self.sums = {number: self.sums[number] for number in self._longest(MAX_KEPT // 2)}
            self.images = {number: self.images[number] for number in self.sums}

    def _halve(self) -> None:
        """Two steps become one."""
        self.frames_per_step *= 2
        self.starts = self.starts[::2]
        for number, sums in self.sums.items():
            self.sums[number] = {}
            for step, values in sums.items():
                _add(self.sums[number], step // 2, values)

    def _longest(self, count: int) -> list[int]:
        """The faces that are in most frames, in the order of their numbers."""
        frames = {number: sum(values[0] for values in sums.values()) for number, sums in self.sums.items()}
        return sorted(sorted(frames, key=frames.get, reverse=True)[:count])

    def plot(self, labels: list[str], end: float, num_faces: int, path: Path) -> None:
        """Write the picture, [`~fer_hf.plots.plot_timeline`], of the faces that were seen longest."""
        shown = self._longest(MAX_SHOWN)
        means = np.full((len(shown), len(labels), len(self.starts)), np.nan)
        for row, number in enumerate(shown):
            for step, (frames, *sums) in self.sums[number].items():
                means[row, :, step] = np.array(sums) / frames
        title = plural(num_faces, "face")
        if num_faces > len(shown):
            title = f"{len(shown)} of {title}, those seen longest"
        faces = {f"face {number}": self.images[number] for number in shown}
        with whole(path) as partial, open(partial, "wb") as file:
            plot_timeline(faces, means, [*self.starts, end], labels, file, title)


def _add(sums: dict[int, np.ndarray], step: int, values: np.ndarray) -> None:
    sums[step] = sums.get(step, 0) + values
