"""Which expressions a model and a data set share: their labels, matched by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions
from fer_hf.labels import canonical_name


@dataclass(frozen=True)
class LabelMatch:
    """
    Which expressions a model and a data set share, in the data set's order.

    Args:
        names (`list[str]`): The data set's names of the shared expressions.
        model_ids, dataset_ids (`list[int]`): Where each of them stands on either side.
        only_in_model, only_in_dataset (`list[str]`): The expressions that the other side lacks.
    """

    names: list[str]
    model_ids: list[int]
    dataset_ids: list[int]
    only_in_model: list[str]
    only_in_dataset: list[str]

    def apply(self, predictions: Predictions) -> tuple[Predictions, np.ndarray]:
        """
        Keep the shared expressions: drop the logits of others, and the rows that are labelled with others.

        Args:
            predictions (`Predictions`): Logits in the model's order, class ids in the data set's.

        Returns:
            `tuple`: Predictions in the order of `names`, and which rows were kept, a boolean array.
        """
        new_ids = np.full(len(self.names) + len(self.only_in_dataset), -1)
        new_ids[self.dataset_ids] = np.arange(len(self.names))
        labels = new_ids[predictions.labels]
        kept = labels >= 0
        return Predictions(predictions.logits[kept][:, self.model_ids], labels[kept]), kept


def match_labels(model_names: Sequence[str], dataset_names: Sequence[str]) -> LabelMatch:
    """
    Match expressions by name, in any order and case, synonyms included ([`fer_hf.labels.SYNONYMS`]).

    Args:
        model_names, dataset_names (`Sequence[str]`): By class id.

    Raises:
        BadInputError: If fewer than two expressions are shared, or a side has one twice.
    """
    sides = []
    for what, names in (("model", model_names), ("data set", dataset_names)):
        keys = [canonical_name(name) or name.strip().lower() for name in names]
        if len(set(keys)) < len(keys):
            raise BadInputError(f"The {what} has two labels for one expression: {', '.join(names)}.")
        sides.append({key: index for index, key in enumerate(keys)})
    model, dataset = sides
    shared = [key for key in dataset if key in model]
    if len(shared) < 2:
        raise BadInputError(
            f"The model's labels are {', '.join(model_names)}, the data set's {', '.join(dataset_names)}: fewer than "
            "two are the same expression. Name them in `id2label` of the model's config.json."
        )
    return LabelMatch(
        names=[dataset_names[dataset[key]] for key in shared],
        model_ids=[model[key] for key in shared],
        dataset_ids=[dataset[key] for key in shared],
        only_in_model=[model_names[model[key]] for key in model if key not in dataset],
        only_in_dataset=[dataset_names[dataset[key]] for key in dataset if key not in model],
    )
