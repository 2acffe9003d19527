"""How to use a model, as Python that runs as it stands: one text for the terminal, the cards and README."""

import json
from pathlib import Path

from fer_hf.models.loading import asset, asset_names
from fer_hf.runs.run import Run
from fer_hf.runs.upload_files import uses_remote_code


def ships(run: Run) -> bool:
    """Whether the run's model is one of those that come with the package."""
    return run.folder.resolve() in [Path(asset(name)).resolve() for name in asset_names()]


def usage(run: Run, place: str | None = None) -> str:
    """
    Python that classifies the crop of one face, or loads a backbone that tells no expression.

    Args:
        run ([`Run`]):
            The run whose model it is.
        place (`str`, *optional*):
            Where the user will have it: a folder or a Hub id. If `None`, what ships with the package is named by
            `fer_hf.asset`, and all else by its folder.
    """
    imports, model = _model(run, place)
    if "mask_ratio" in run.record.model:
        lines = [
            "from transformers import AutoImageProcessor, AutoModel",
            "",
            f"backbone = AutoModel.from_pretrained({model})",
            f"processor = AutoImageProcessor.from_pretrained({model})",
        ]
        return "\n".join([*imports, *lines])
    labels = run.config["id2label"]
    lines = [
        "from transformers import pipeline",
        "",
        f'classifier = pipeline("image-classification", model={model}, top_k={len(labels)})',
        f'classifier("face.png")  # [{{"label": {json.dumps(labels["0"])}, "score": ...}}, ...], the likeliest first',
    ]
    return "\n".join([*imports, *lines])


def photo_usage(run: Run, place: str | None = None) -> str:
    """Python that finds the faces in a photo and classifies each; arguments as for [`usage`]."""
    _, model = _model(run, place, has_fer_hf=True)
    lines = [
        "import fer_hf",
        "from transformers import pipeline",
        "",
        f'finder = pipeline("facial-expression", model={model})',
        f'finder("photo.jpg")  # for each face: box, landmarks, expression, all {len(run.config["id2label"])} scores',
    ]
    return "\n".join(lines)


def _model(run: Run, place: str | None, has_fer_hf: bool = False) -> tuple[list[str], str]:
    """What must be imported, and what is passed for the model; without `fer_hf`, with what its own code needs."""
    if place is None and ships(run):
        return ["import fer_hf"], f'fer_hf.asset("{run.name}")'
    code = ", trust_remote_code=True" if uses_remote_code(run) and not has_fer_hf else ""
    return [], json.dumps(place or str(run), ensure_ascii=False) + code
