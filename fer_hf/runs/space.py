"""The page of `fer-hf page` as a static Space on the Hub."""

import tempfile
from pathlib import Path

from huggingface_hub import metadata_load, metadata_save

from fer_hf.inference.browser import write_page
from fer_hf.models.loading import asset, asset_names
from fer_hf.runs.facts import license_terms
from fer_hf.runs.publish import HubError, check_repo_id, hub
from fer_hf.runs.record import RECORD
from fer_hf.runs.run import Run


# What an empty Space has, and a file that only our pages have.
_NEW, _OURS = {".gitattributes", "README.md", "index.html", "style.css"}, "model.json"


def write_space(model: str, folder: str | Path, license: str | None = None) -> None:
    """
    Write the files of a Space: the page, and in the metadata of its `README.md` the licence.

    Args:
        model, folder: As for [`~fer_hf.inference.browser.write_page`].
        license (`str`, *optional*):
            The Hub's id of a licence. If `None`, what the terms of a run's data allow; of another model nothing.

    Raises:
        BadInputError: If the page cannot be written.
    """
    write_page(model, folder)
    run = Path(asset(model) if model in asset_names() else model)
    dataset = Run(run).record.dataset["name"] if (run / RECORD).is_file() else None
    if license or dataset:
        readme = Path(folder, "README.md")
        metadata_save(readme, {**metadata_load(readme), **license_terms(dataset, license)})


def push_space(
    model: str, repo_id: str, private: bool = False, license: str | None = None, token: str | None = None
) -> str:
    """
    Make the page with a model a static Space, or replace the page in a Space that this function made.

    Args:
        model, license: As for [`write_space`].
        repo_id (`str`): `owner/name` of the Space.
        private (`bool`, *optional*, defaults to `False`): Whether a new Space is private.
        token (`str`, *optional*): A token with write access. If `None`, `HF_TOKEN` or the stored login.

    Returns:
        `str`: URL of the Space.

    Raises:
        BadInputError: If the page cannot be written. Nothing was sent.
        HubError: Bad name, name taken, no token, no right, no network, or the Hub's own complaint.
    """
    check_repo_id(repo_id)
    with tempfile.TemporaryDirectory() as place, hub(repo_id, token=token) as api:
        api.whoami()  # a bad token shows here, before the model is exported
        write_space(model, Path(place, "page"), license)
        api.create_repo(repo_id, repo_type="space", space_sdk="static", private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id, repo_type="space").private:
            raise HubError(f"{repo_id} exists and is public: make it private on the Hub first, or drop `private`.")
        there = set(api.list_repo_files(repo_id, repo_type="space"))
        if there - _NEW and _OURS not in there:
            raise HubError(f"the name is taken: the Space {repo_id} holds files that fer_hf did not put there.")
        api.upload_folder(
            repo_id=repo_id, repo_type="space", folder_path=Path(place, "page"), delete_patterns="*",
            commit_message="Upload page with fer_hf",
        )  # fmt: skip
        return f"{api.endpoint}/spaces/{repo_id}"
