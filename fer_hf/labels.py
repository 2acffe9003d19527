"""The canonical expressions, and each source's own codes mapped to them by name. Imports nothing of the project."""

# The project's one label order: position i is class id i in every table we build and every checkpoint we publish.
# It is FER-2013's own (Goodfellow et al., 2013, https://huggingface.co/papers/1307.0414).
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

# FER+ (Barsoum et al., 2016, https://huggingface.co/papers/1608.01041) adds an eighth expression, after the seven.
EXPRESSIONS_WITH_CONTEMPT = (*EXPRESSIONS, "contempt")

# What each source's own integer codes mean, by name. Integers from elsewhere are never trusted without such a row.
SOURCE_CODES = {
    # `emotion` column of fer2013.csv and its variants. Goodfellow et al., 2013.
    "fer2013": dict(enumerate(EXPRESSIONS)),
    # EmoLabel/list_patition_label.txt and the folders 1..7, http://www.whdeng.cn/raf/model1.html
    "rafdb": {1: "surprise", 2: "fear", 3: "disgust", 4: "happy", 5: "sad", 6: "angry", 7: "neutral"},
    # Vote columns of fer2013new.csv, in the file's order, https://github.com/microsoft/FERPlus
    "ferplus": {0: "neutral", 1: "happy", 2: "surprise", 3: "sad", 4: "angry", 5: "disgust", 6: "fear", 7: "contempt"},
}

# What other people call the canonical expressions; names are compared in lower case.
SYNONYMS = {
    "anger": "angry",
    "angriness": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "neutrality": "neutral",
    "contemptuous": "contempt",
}


def canonical_name(name: str) -> str | None:
    """
    The canonical expression that `name` means, whatever its case, surrounding blanks or known synonym.

    Args:
        name (`str`):
            A label name as a source writes it, such as a folder name.

    Returns:
        `str` or `None`: One of [`EXPRESSIONS_WITH_CONTEMPT`], or `None` when the name is not known.
    """
    name = name.strip().lower()
    name = SYNONYMS.get(name, name)
    return name if name in EXPRESSIONS_WITH_CONTEMPT else None


def id2label(names: tuple[str, ...] = EXPRESSIONS) -> dict[int, str]:
    """`{0: "angry", ...}` for a config's `id2label`."""
    return dict(enumerate(names))


def label2id(names: tuple[str, ...] = EXPRESSIONS) -> dict[str, int]:
    """`{"angry": 0, ...}` for a config's `label2id`."""
    return {name: index for index, name in enumerate(names)}
