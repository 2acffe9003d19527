"""No test may reach the Hub, write into the user's caches, or depend on the order of the others."""

import logging
import os
import tempfile


# Set before anything of Hugging Face is imported: these are read at import.
_home = tempfile.TemporaryDirectory(prefix="fer_hf-tests-")
os.environ["HF_HOME"] = _home.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, ViTModel, set_seed

from fer_hf.labels import EXPRESSIONS, id2label, label2id


def tiny_vit_config(**changes) -> ViTConfig:
    """Three layers, 32 wide, 48-pixel faces in 16-pixel patches."""
    fields = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 48,
        "patch_size": 16,
        "id2label": id2label(),
        "label2id": label2id(),
        "problem_type": "single_label_classification",
    }
    return ViTConfig(**{**fields, **changes})


@pytest.fixture(autouse=True)
def seeded():
    set_seed(0)
    torch.set_num_threads(1)
    for name in ("fer_hf", "fer_hf.data"):
        logging.getLogger(name).setLevel(logging.NOTSET)  # a command that ran before sets it


@pytest.fixture
def tiny_vit() -> ViTForImageClassification:
    return ViTForImageClassification(tiny_vit_config())


@pytest.fixture
def processor() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True)


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory):
    """A few drawn faces in three splits."""
    from fer_hf.data import load_dataset

    cache = tmp_path_factory.mktemp("cache")
    return load_dataset("synthetic", train=56, validation=28, test=28, cache_dir=cache)


@pytest.fixture(scope="session")
def real_fer2013(tmp_path_factory):
    """FER-2013 from its CSV, for the tests that need the real faces."""
    if "FER2013_DIR" not in os.environ:
        pytest.skip("FER2013_DIR is not set to a folder with FER-2013 as fer2013.csv")
    from fer_hf.data import load_dataset

    cache = tmp_path_factory.mktemp("cache")
    return load_dataset("fer2013", os.environ["FER2013_DIR"], cache_dir=cache, layout="csv")


@pytest.fixture(scope="session")
def names() -> list[str]:
    return list(EXPRESSIONS)


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory) -> str:
    """A small ViT, saved with its image processor. Its head is large: a fresh one hardly looks at the image."""
    set_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    model = ViTForImageClassification(tiny_vit_config())
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory) -> str:
    """The same without a head."""
    folder = tmp_path_factory.mktemp("backbone")
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True).save_pretrained(folder)
    return str(folder)
