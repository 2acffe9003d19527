"""Publishing: model cards filled from a run's files, what may leave a run directory, and the upload."""

from fer_hf.hub.card import render_model_card, write_model_card
from fer_hf.hub.facts import DATASETS
from fer_hf.hub.gallery import add_to_gallery
from fer_hf.hub.publish import HubError, check_repo_id, push
from fer_hf.hub.run_files import (
    RunDirectoryError,
    check_publishable,
    face_pictures,
    files_left_out,
    files_to_upload,
)


__all__ = [
    "DATASETS",
    "HubError",
    "RunDirectoryError",
    "add_to_gallery",
    "check_publishable",
    "check_repo_id",
    "face_pictures",
    "files_left_out",
    "files_to_upload",
    "push",
    "render_model_card",
    "write_model_card",
]
