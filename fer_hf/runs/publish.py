"""The upload of a run, or of a converted data set, to the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from fer_hf.errors import BadInputError
from fer_hf.runs.card import write_model_card
from fer_hf.runs.record import RECORD
from fer_hf.runs.run import Run, as_run
from fer_hf.runs.upload_files import check_publishable, files_to_upload, stale


_FREE_NAMES = {".gitattributes", "README.md", "LICENSE", "LICENSE.md"}  # a repository with these alone is empty
_TABLES = "data/*.parquet"


class HubError(BadInputError):
    """The Hub could not be reached, or did not do what was asked. The message is one line and says what to do."""


def check_repo_id(repo_id: str) -> None:
    """Raise [`HubError`] unless `repo_id` is a valid `owner/name`."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"`repo_id` is not a valid name: {error}") from error
    if "/" not in repo_id:
        raise HubError(f"`repo_id` must be owner/name, got {repo_id!r}.")


def check_login(repo_id: str, token: str | None = None) -> None:
    """Raise [`HubError`] unless `repo_id` is a valid `owner/name` and the Hub accepts the token."""
    check_repo_id(repo_id)
    with hub(repo_id, token=token) as api:
        api.whoami()


def push(
    run: str | Path | Run,
    repo_id: str,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    license: str | None = None,
    include_faces: bool = False,
) -> str:
    """
    Publish a run: write its card, and upload what [`files_to_upload`] lists in one commit. A model that this function
    published before is updated, and what is left over of it deleted. Running again after a failure sends only what is
    missing.

    Args:
        run (`str`, `Path` or [`Run`]):
            The output directory of a run.
        repo_id (`str`):
            `owner/name`.
        private (`bool`, *optional*, defaults to `False`):
            Whether a new repository is private. An existing public one is refused, since it would stay public.
        create_pr (`bool`, *optional*, defaults to `False`):
            Open a pull request instead of committing, or update your open one of the same title.
        revision (`str`, *optional*):
            The branch to commit to, created if missing; with `create_pr`, the existing one to open the request on.
        token (`str`, *optional*):
            A token with write access. If `None`, `HF_TOKEN` or the stored login.
        commit_message (`str`, *optional*):
            Title of the commit or pull request.
        license, include_faces:
            As for [`render_model_card`] and [`files_to_upload`].

    Returns:
        `str`: URL of the repository (at `revision`), or of the pull request.

    Raises:
        RunDirectoryError: If the run cannot be published as it is. Nothing was sent.
        HubError: Bad name, name taken, no token, no right, no network, or the Hub's own complaint.
    """
    check_repo_id(repo_id)
    run = as_run(run)
    card = write_model_card(run, repo_id, license, include_faces)
    files = {path.relative_to(run).as_posix(): path for path in files_to_upload(run, include_faces)}
    target = _Target(repo_id, "model", private, create_pr, revision)
    return _publish(files, card, target, token, commit_message or "Upload model with fer_hf")


def push_dataset(folder: str | Path, repo_id: str, token: str | None = None) -> str:
    """
    Upload a folder that [`~fer_hf.data.convert.convert`] wrote to a private repository of data sets, in one commit. A
    data set that this function uploaded before is replaced.

    Args:
        folder (`str` or `Path`):
            The folder.
        repo_id, token:
            As for [`push`].

    Returns:
        `str`: URL of the repository.

    Raises:
        RunDirectoryError: If the card names a path of a machine. Nothing was sent.
        HubError: As [`push`], and if the repository exists and is public.
    """
    check_repo_id(repo_id)
    folder = Path(folder)
    card, tables = folder / "README.md", sorted(folder.glob(_TABLES))
    files = {path.relative_to(folder).as_posix(): path for path in (card, *tables)}
    return _publish(files, card, _Target(repo_id, "dataset", private=True), token, "Upload data set with fer_hf")


@dataclass(frozen=True)
class _Target:
    """Where files go."""

    repo_id: str
    repo_type: str
    private: bool = False
    create_pr: bool = False
    revision: str | None = None

    @property
    def repo(self) -> dict[str, str]:
        """What every call of the Hub's client needs."""
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}

    def is_ours(self, there: list[str]) -> bool:
        """Whether files in a repository are what an earlier upload of this kind left there."""
        if self.repo_type == "model":
            return RECORD in there
        return all(fnmatch(name, _TABLES) for name in set(there) - _FREE_NAMES)

    def left_over(self, there: list[str], names: set[str]) -> list[str]:
        """Which of them an upload of the files `names` does not replace."""
        if self.repo_type == "model":
            return stale(there, names)
        return sorted(name for name in there if fnmatch(name, _TABLES) and name not in names)


def _publish(files: dict[str, Path], card: Path, target: _Target, token: str | None, title: str) -> str:
    """Send files, by their names in the repository, in one commit; the URL where they are then."""
    check_publishable(list(files.values()))
    with hub(target.repo_id, target.revision, token) as api:
        user = api.whoami()["name"]  # a bad token shows here, before large files are hashed
        _validate(card, api, target)  # and a bad card, before anything is made
        _make_repository(api, target)
        return _send(api, files, target, user, title)


@contextmanager
def hub(repo_id: str, revision: str | None = None, token: str | None = None) -> Iterator[HfApi]:
    """
    The Hub, for writing to a repository.

    Raises:
        HubError: If there is no token; and instead of whatever else goes wrong in the block.
    """
    if (token := token or get_token()) is None:
        raise HubError("no access token: set HF_TOKEN, or run `hf auth login`.")
    try:
        yield HfApi(token=token)
    except HubError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise HubError(_explain(error, repo_id, revision)) from error


def _make_repository(api: HfApi, target: _Target) -> None:
    """Make the repository and its branch if they are missing; raise [`HubError`] if the name is not ours to take."""
    api.create_repo(**target.repo, private=target.private or None, exist_ok=True)
    if target.private and not api.repo_info(**target.repo).private:
        raise HubError(f"{target.repo_id} exists and is public: make it private on the Hub first, or drop `private`.")
    if not target.create_pr and not (target.revision or "").startswith("refs/"):
        _check_name_is_free(api.list_repo_files(**target.repo), target)
        if target.revision:
            api.create_branch(**target.repo, branch=target.revision, exist_ok=True)


def _send(api: HfApi, files: dict[str, Path], target: _Target, user: str, title: str) -> str:
    """Commit the files, and delete what an earlier upload left; the URL of the repository or the pull request."""
    revision, create_pr = target.revision, target.create_pr
    request = _open_request(api, target.repo_id, user, title) if create_pr and revision is None else None
    if request:
        revision, create_pr = request.git_reference, False
    left_over = target.left_over(api.list_repo_files(**target.repo, revision=revision), set(files))
    commit = api.create_commit(
        **target.repo,
        operations=[CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
        + [CommitOperationDelete(path_in_repo=name) for name in left_over],
        commit_message=title,
        revision=revision,
        create_pr=create_pr,
    )
    if request:
        return request.url
    place = f"{api.endpoint}/{'' if target.repo_type == 'model' else 'datasets/'}{target.repo_id}"
    return commit.pr_url or place + (f"/tree/{revision}" if revision else "")


def _validate(card: Path, api: HfApi, target: _Target) -> None:
    """The Hub's own check of a card. (`ModelCard.validate` asks huggingface.co alone before huggingface_hub 2.)"""
    response = get_session().post(
        f"{api.endpoint}/api/validate-yaml",
        json={"repoType": target.repo_type, "content": card.read_text(encoding="utf-8")},
        headers=build_hf_headers(token=api.token),
    )
    if response.status_code == 400:
        text = "; ".join(entry["message"] for entry in response.json()["errors"])
        raise HubError(f"the Hub does not accept the card {card}: {' '.join(text.split())}")
    hf_raise_for_status(response)


def _check_name_is_free(there: list[str], target: _Target) -> None:
    if set(there) - _FREE_NAMES and not target.is_ours(there):
        proposal = ", or propose the change with `create_pr`" if target.repo_type == "model" else ""
        raise HubError(
            f"the name is taken: {target.repo_id} holds files that fer_hf did not put there. Choose another{proposal}."
        )


def _open_request(api: HfApi, repo_id: str, user: str, title: str):
    """The user's own open pull request of this title, which a second run updates instead of opening another."""
    requests = api.get_repo_discussions(repo_id, author=user, discussion_type="pull_request", discussion_status="open")
    return next((request for request in requests if request.title == title), None)


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
    if status is not None and (status >= 500 or status == 429):
        return f"the Hub cannot answer now (HTTP {status}): run again later; what has arrived is not sent twice."
    return f"the Hub refused {repo_id}: {text}"
