"""What a card says about data sets and papers beside a run's own numbers: names, terms, known defects, citations."""

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


_FER2013_PAPER = (
    "Goodfellow et al., 2013. *Challenges in Representation Learning: A Report on Three Machine Learning Contests.* "
    "https://arxiv.org/abs/1307.0414"
)
_FER2013_COPIES = (
    "Some faces of the test and validation splits have pixel-identical copies in the training split, so scores on all "
    "faces of a split partly reward memory."
)

# `title` is the data set's name in the model-index. `license` is for the card's metadata, if it is not Apache-2.0.
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
        # What is learnt from data for research alone is not free for all.
        "license": {
            "license": "other",
            "license_name": "non-commercial-research",
            "license_link": "http://www.whdeng.cn/raf/model1.html",
        },
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
    "imagefolder": {
        "title": "the publisher's own images",
        "about": "A folder of the publisher's own images, with a sub-folder for each expression.",
        "terms": "See its publisher.",
        "citations": [],
    },
}

_VIT_PAPER = (
    "Dosovitskiy et al., 2021. *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale.* ICLR. "
    "https://arxiv.org/abs/2010.11929"
)

# The paper to cite for a `model_type`, or for that of the backbone under a head of ours.
MODEL_PAPERS = {
    "vit": _VIT_PAPER,
    "dacl": "Farzaneh and Qi, 2021. *Facial Expression Recognition in the Wild via Deep Attentive Center Loss.* WACV.",
    "transfer": "Xue, Wang and Guo, 2021. *TransFER: Learning Relation-aware Facial Expression Representations with "
    "Transformers.* ICCV. https://arxiv.org/abs/2108.11116",
}


def hub_dataset_id(name: str) -> str | None:
    """`owner/name` of a data set `hub:owner/name`; `None` for any other, and for a local folder under that prefix."""
    try:
        validate_repo_id(repo_id := name.removeprefix("hub:"))
    except HFValidationError:
        return None
    return repo_id if name.startswith("hub:") else None


def dataset_facts(name: str) -> dict:
    """
    What a card says of the data set called `name` in a run record.

    Returns:
        `dict`: `title`, `about`, `terms`, `citations` and, where there are any, `splits`, `defects`, `warning`,
        `license`. Of a data set that the project does not know, no more than its name.
    """
    if name in DATASETS:
        return DATASETS[name]
    if repo_id := hub_dataset_id(name):
        url = f"https://huggingface.co/datasets/{repo_id}"
        about = {"about": f"The data set [{repo_id}]({url}) of the Hugging Face Hub.", "terms": f"See {url}."}
        return {"title": repo_id, **about, "citations": []}
    about = {"about": "A data set of the publisher's own.", "terms": "See its publisher."}
    return {"title": name, **about, "citations": []}


def license_terms(dataset: str | None, license: str | None = None) -> dict[str, str]:
    """
    The licence in the metadata of what is published.

    Args:
        dataset (`str`, *optional*): What a model was trained on, as in a run record.
        license (`str`, *optional*): The Hub's id of the licence that a user asks for.

    Returns:
        `dict`: `license`, which is Apache-2.0 unless the data set's terms are others, and what goes with it.
    """
    return {"license": license} if license else dataset_facts(dataset).get("license", {"license": "apache-2.0"})
