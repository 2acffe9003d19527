"""Model cards filled from a run's files, the list of files that may leave a run directory, and the upload itself."""

import json
import os
import re
from pathlib import Path

import jinja2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    get_token,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from fer_hf.errors import BadInputError


TEMPLATE = Path(__file__).parent / "assets" / "model_card_template.md"
PICTURES = ("confusion_matrix.png", "learning_curves.png")

_FER2013_PAPER = (
    "Goodfellow et al., 2013. *Challenges in Representation Learning: A Report on Three Machine Learning Contests.* "
    "https://arxiv.org/abs/1307.0414"
)
_FER2013_COPIES = (
    "Some faces of the test and validation splits have pixel-identical copies in the training split, so the scores "
    "above partly reward memory."
)

# What a card says about a data set besides the run's own counts. `title` is its name in the model-index.
DATASETS = {
    "fer2013": {
        "title": "FER-2013",
        "about": "Grey 48 x 48 faces found by image search on the web, from the ICML 2013 challenge.",
        "splits": "`train`, `validation` and `test` are the challenge's Training, PublicTest and PrivateTest.",
        "terms": "Published for research through that challenge. The photographs belong to their owners on the web.",
        "defects": [
            _FER2013_COPIES,
            "The labels are noisy: annotators disagree often, identical pictures carry different labels, and some "
            "pictures are blank or show no face.",
        ],
        "citations": [_FER2013_PAPER],
    },
    "ferplus": {
        "title": "FER+",
        "about": "The faces of FER-2013 (grey, 48 x 48, from the web), each labelled anew by ten crowd workers.",
        "splits": "`train`, `validation` and `test` are FER-2013's Training, PublicTest and PrivateTest.",
        "terms": "The labels are under the MIT licence; the faces were published for research through the ICML 2013 "
        "challenge and belong to their owners on the web.",
        "defects": [_FER2013_COPIES],
        "citations": [
            "Barsoum et al., 2016. *Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label "
            "Distribution.* https://arxiv.org/abs/1608.01041",
            _FER2013_PAPER,
        ],
    },
    "rafdb": {
        "title": "RAF-DB",
        "about": "Faces from the web (the basic expressions, single label), each labelled by about forty annotators.",
        "splits": "Its lists have a train and a test part only; a validation split is held out of train.",
        "terms": "For non-commercial research only, on request from its authors "
        "(http://www.whdeng.cn/raf/model1.html); neither the images nor what is derived from them may be "
        "redistributed or exploited commercially.",
        "defects": ["Happy and neutral faces far outnumber fear, disgust and anger."],
        "citations": [
            "Li, Deng and Du, 2017. *Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression "
            "Recognition in the Wild.* CVPR."
        ],
    },
    "synthetic": {
        "title": "fer_hf drawn faces",
        "about": "Cartoon faces that fer_hf draws from a seed, for tests and demonstrations. No person is shown.",
        "terms": "The drawings are made by fer_hf itself and carry no terms of others.",
        "warning": "Trained and scored on drawings: accuracy on drawn faces says nothing about people.",
        "citations": [],
    },
}

_VIT_PAPER = (
    "Dosovitskiy et al., 2021. *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale.* ICLR. "
    "https://arxiv.org/abs/2010.11929"
)

# The paper to cite for a `model_type`, or for that of the backbone under a head of ours.
_MODEL_PAPERS = {
    "vit": _VIT_PAPER,
    "dacl": "Farzaneh and Qi, 2021. *Facial Expression Recognition in the Wild via Deep Attentive Center Loss.* WACV.",
    "transfer": "Xue, Wang and Guo, 2021. *TransFER: Learning Relation-aware Facial Expression Representations with "
    "Transformers.* ICCV. https://arxiv.org/abs/2108.11116",
}

# Metric of a report -> its id, arguments and name in the model-index.
_METRICS = {
    "accuracy": ("accuracy", None, "Accuracy"),
    "macro_f1": ("f1", {"average": "macro"}, "Macro F1"),
    "mean_class_accuracy": ("recall", {"average": "macro"}, "Mean per-class accuracy"),
}

# An absolute path of POSIX or Windows, not the inside of a URL or of a relative path. JSON writes a line break as \n.
_MACHINE_PATH = re.compile(
    r"(?:(?<![\w.~/-])|(?<=\\[nrt]))(?:/(?:home|root|Users|tmp)/|/[\w.-]+/[\w.-]+)[\w./-]*|file:///[\w./-]*"
    r"|(?<![A-Za-z0-9])[A-Za-z]:\\[\w.\\-]*"
)
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
_TEXT = (".json", ".md", ".py")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")


class RunDirectoryError(BadInputError):
    """A run directory lacks a file, or holds something that must not be published. The message names the file."""


class HubError(BadInputError):
    """The Hub could not be reached, or did not do what was asked. The message is one line and says what to do."""


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirectoryError(f"{path.parent} holds no {path.name}: is it the output directory of a run?") from None
    except ValueError as error:
        raise RunDirectoryError(f"{path} is not valid JSON: {error}.") from error


def _run_directory(run_dir: str | Path) -> Path:
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise RunDirectoryError(f"{run_dir} is not a directory.")
    return run_dir


def _card_data(record: dict, facts: dict, name: str, base_model: str | None, model_type: str) -> ModelCardData:
    results = []
    for split, report in record["results"].items():
        # Validation chose the checkpoint, so it is listed by accuracy alone; the test split is the result.
        for metric in _METRICS if split == "test" else ("accuracy",):
            metric_type, metric_args, metric_name = _METRICS[metric]
            results.append(
                EvalResult(
                    task_type="image-classification",
                    task_name="Facial expression recognition",
                    dataset_type=record["dataset"]["name"],
                    dataset_name=facts["title"],
                    dataset_split=split,
                    metric_type=metric_type,
                    metric_name=metric_name,
                    metric_args=metric_args,
                    metric_value=report[metric],
                )
            )
    return ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-classification",
        base_model=base_model,
        tags=["facial-expression-recognition", "emotion-recognition", "fer_hf", model_type, record["dataset"]["name"]],
        metrics=["accuracy", "f1", "recall"],
        model_name=name,
        eval_results=results,
    )


def render_model_card(run_dir: str | Path, repo_id: str | None = None) -> ModelCard:
    """
    The model card of a run. Every number in it comes from `run_record.json` and `config.json` in `run_dir`.

    Args:
        run_dir (`str` or `Path`):
            The output directory of a run.
        repo_id (`str`, *optional*):
            Where the model will live, for the usage snippet. If `None`, the name of `run_dir` is shown.

    Returns:
        `huggingface_hub.ModelCard`: The card, with a `model-index` in its metadata.

    Raises:
        `RunDirectoryError`: `run_dir` lacks one of the two files, or a value that the card needs.
    """
    run_dir = _run_directory(run_dir)
    record, config = _read_json(run_dir / "run_record.json"), _read_json(run_dir / "config.json")
    if not record.get("results"):
        raise RunDirectoryError(f"{run_dir / 'run_record.json'} holds no results: evaluate the run before publishing.")
    name = (repo_id or run_dir.resolve().name).split("/")[-1]
    try:
        dataset = record["dataset"]["name"]
        # A user's own data set: the card says only what the run knows.
        own = {"title": dataset, "about": "A data set of the publisher's own.", "terms": "See its publisher."}
        facts = DATASETS.get(dataset, own | {"citations": []})
        # Folders and shipped checkpoints are no Hub ids, whatever they look like.
        base_model = record["model"]["name_or_path"] if record["model"]["source"] == "hub" else None
        last_split = "test" if "test" in record["results"] else next(iter(record["results"]))
        minutes = record["runtime"]["train_seconds"] / 60
        model_paper = _MODEL_PAPERS.get(config.get("backbone_config", config)["model_type"])
        # Not `ModelCard.from_template`, which renders a missing value as nothing instead of refusing it.
        template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
        content = template.render(
            card_data=_card_data(record, facts, name, base_model, config["model_type"]).to_yaml(),
            record=record,
            facts=facts,
            name=name,
            repo_id=repo_id,
            labels=[label for _, label in sorted((int(key), label) for key, label in config["id2label"].items())],
            has_code="auto_map" in config,
            splits=list(record["results"]),
            counts=record["dataset"]["counts"],
            test=record["results"].get("test"),
            last_split=last_split,
            last=record["results"][last_split],
            pictures=[name for name in PICTURES if (run_dir / name).is_file()],
            duration=f"{minutes:.1f} minutes" if minutes >= 1 else f"{minutes * 60:.0f} seconds",
            hyperparameters={
                key: str(value).replace("|", "\\|") for key, value in record["training"].items() if value is not None
            },
            citations=facts["citations"] + ([model_paper] if model_paper else []),
        )
    except (AttributeError, KeyError, TypeError, jinja2.UndefinedError) as error:
        message = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunDirectoryError(f"{run_dir}: the run's record and config cannot fill a card: {message}.") from error
    return ModelCard(content)


def write_model_card(run_dir: str | Path, repo_id: str | None = None) -> Path:
    """
    Renders the card of `run_dir` into its `README.md`, over whatever stood there; a reader never sees half a file.

    Returns:
        `Path`: The card's file.
    """
    card = render_model_card(run_dir, repo_id)
    path = Path(run_dir, "README.md")
    unfinished = path.with_name(".README.md.unfinished")
    card.save(unfinished)
    os.replace(unfinished, path)
    return path


def files_to_upload(run_dir: str | Path) -> list[Path]:
    """
    The files of a run that may be published: weights, configs, processor, card, records, the two pictures, and the
    model's code if `config.json` has an `auto_map`. An allow-list: pickles, optimizer states, checkpoints and caches
    are not on it.

    Args:
        run_dir (`str` or `Path`):
            The output directory of a run.

    Returns:
        `list[Path]`: Existing files directly inside `run_dir`.

    Raises:
        `RunDirectoryError`: a file that loading the model needs is missing.
    """
    run_dir = _run_directory(run_dir)
    config = _read_json(run_dir / "config.json")
    names = ["config.json", "preprocessor_config.json", "run_record.json"]
    if (run_dir / "model.safetensors.index.json").is_file() and not (run_dir / "model.safetensors").is_file():
        index = _read_json(run_dir / "model.safetensors.index.json")
        names += ["model.safetensors.index.json", *sorted(set(index["weight_map"].values()))]
    else:
        names.append("model.safetensors")
    if "auto_map" in config:
        modules = [value.split(".")[0] for value in config["auto_map"].values() if isinstance(value, str)]
        names += [f"{module}.py" for module in modules if "--" not in module]  # "--": code of another repository
        names += [path.name for path in sorted(run_dir.glob("*.py"))]
    if missing := [name for name in dict.fromkeys(names) if not (run_dir / name).is_file()]:
        raise RunDirectoryError(f"{run_dir} lacks {', '.join(missing)}: is it the output directory of a finished run?")
    names += [name for name in ("README.md", "all_results.json", *PICTURES) if (run_dir / name).is_file()]
    names += [path.name for path in sorted(run_dir.glob("*_report.json"))]
    return [run_dir / name for name in dict.fromkeys(names)]


def check_publishable(files: list[Path]) -> None:
    """
    Refuses text files that tell where on a machine things lay, or that hold an access token.

    Raises:
        `RunDirectoryError`: Names the file and the string found (of a token, its first characters).
    """
    for path in files:
        if path.suffix not in _TEXT:
            continue
        text = path.read_text(encoding="utf-8")
        if found := _TOKEN.search(text):
            raise RunDirectoryError(f"{path} holds an access token ({found[0][:6]}...): remove it, and revoke it.")
        if found := _MACHINE_PATH.search(text):
            raise RunDirectoryError(
                f"{path} holds the absolute path {found[0]!r} of a machine, which must not be published: "
                "write it relative, or as DIR."
            )


def check_repo_id(repo_id: str) -> None:
    """Raises `HubError` unless `repo_id` is a valid `owner/name`."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"`repo_id` is not a valid name: {error}") from error
    if "/" not in repo_id:
        raise HubError(f"`repo_id` must be owner/name, got {repo_id!r}.")


def _explain(error: Exception, repo_id: str, revision: str | None) -> str:
    """One line for a failed conversation with the Hub."""
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the threads of an upload wrap what happened
    text = " ".join(str(getattr(error, "server_message", None) or error).split())
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401:
        return "the Hub does not accept the token: set HF_TOKEN, or run `hf auth login`, with a valid one."
    if status == 403:
        return f"the token has no right to write to {repo_id}: use one with write access there, or another owner."
    if status == 404:
        return f"the Hub knows no {repo_id}" + (f" at revision {revision}." if revision else ".")
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on: unset HF_HUB_OFFLINE to publish."
    if status is None and isinstance(error, (HTTPError, ConnectionError)):
        return f"no connection to the Hub ({text}): check the network and HF_ENDPOINT, then run again."
    return f"the Hub refused {repo_id}: {text}"


def push(
    run_dir: str | Path,
    repo_id: str,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str | None = None,
) -> str:
    """
    Publishes a run: writes its card and uploads what [`files_to_upload`] lists in one commit. A repository that
    exists is updated; running again after a failure sends only what is missing.

    Args:
        run_dir (`str` or `Path`):
            The output directory of a run.
        repo_id (`str`):
            `owner/name`.
        private (`bool`, *optional*, defaults to `False`):
            Whether a new repository is private. An existing public one is refused, since it would stay public.
        create_pr (`bool`, *optional*, defaults to `False`):
            Open a pull request instead of committing.
        revision (`str`, *optional*):
            The branch to commit to, created if missing; with `create_pr`, the existing one to open the request on.
        token (`str`, *optional*):
            A token with write access. If `None`, `HF_TOKEN` or the stored login.
        commit_message (`str`, *optional*):
            Title of the commit or pull request.

    Returns:
        `str`: URL of the repository (at `revision`), or of the pull request.

    Raises:
        `RunDirectoryError`: The run cannot be published as it is. Nothing was sent.
        `HubError`: Bad name, no token, no right, no network, or the Hub's own complaint.
    """
    check_repo_id(repo_id)
    write_model_card(run_dir, repo_id)
    files = files_to_upload(run_dir)
    check_publishable(files)
    if (token := token or get_token()) is None:
        raise HubError("No access token: set HF_TOKEN, or run `hf auth login`.")
    api = HfApi(token=token)
    try:
        api.whoami()  # a bad token shows here, before large files are hashed
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise HubError(f"{repo_id} exists and is public: make it private on the Hub first, or drop `private`.")
        if revision and not create_pr and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        # Left-over weights of another layout would be loaded instead of the new ones.
        there = api.list_repo_files(repo_id, revision=revision)
        stale = {name for name in there if _WEIGHTS.fullmatch(name)} - {path.name for path in files}
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path) for path in files]
            + [CommitOperationDelete(path_in_repo=name) for name in sorted(stale)],
            commit_message=commit_message or "Upload model with fer_hf",
            revision=revision,
            create_pr=create_pr,
        )
    except HubError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise HubError(_explain(error, repo_id, revision)) from error
    return commit.pr_url or f"{api.endpoint}/{repo_id}" + (f"/tree/{revision}" if revision else "")
