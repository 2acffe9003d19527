"""
Pretrain a compact ViT backbone on drawn faces, without expressions: regress where brows, lids, nose and mouth lie, and
how strongly each facial action unit shows.

    accelerate launch recipes/pretrain_drawn_faces.py --config recipes/configs/pretrain_vit_compact_drawn.yaml

What it leaves is a bare backbone (`ViTModel`) and its image processor, for `--model_name_or_path` of other recipes.
From a random start, gradual unfreezing of a deep ViT learns next to nothing: the head sits on frozen noise.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    BaseImageProcessor,
    EvalPrediction,
    TrainerState,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    set_seed,
)

from fer_hf.data.collator import FaceCollator
from fer_hf.training import DataArguments, FerTrainer, FerTrainingArguments, parse_arguments, run, start
from fer_hf.training.launch import command_line


RECIPE = Path(__file__).stem
CONFIG = Path(__file__).parent / "configs" / "pretrain_vit_compact_drawn.yaml"


@dataclass
class BackboneArguments:
    """Shape of the ViT that is pretrained."""

    image_size: int = field(default=48, metadata={"help": "Side of the input in pixels."})
    patch_size: int = field(default=8, metadata={"help": "Side of a patch in pixels."})
    hidden_size: int = field(default=64, metadata={"help": "Width of the encoder."})
    num_hidden_layers: int = field(default=12, metadata={"help": "Layers of the encoder."})
    num_attention_heads: int = field(default=4, metadata={"help": "Attention heads."})
    intermediate_size: int = field(default=256, metadata={"help": "Width of the layers' MLPs."})


def main() -> None:
    backbone_args, data_args, args, _ = parse_arguments(
        (BackboneArguments, DataArguments, FerTrainingArguments), RECIPE, CONFIG
    )
    start(
        args,
        f"{RECIPE}: a {backbone_args.num_hidden_layers}-layer ViT on the landmarks and action units of drawn faces",
    )
    set_seed(args.seed)

    faces = data_args.load(landmarks=True, action_units=True)
    size = {"height": backbone_args.image_size, "width": backbone_args.image_size}
    processor = ViTImageProcessor(size=size, do_convert_rgb=True)
    collator = FaceTargetCollator(processor, faces["train"])
    model = build(backbone_args, num_targets=len(collator.mean))
    trainer = FerTrainer(
        model=model,
        args=args,
        train_dataset=faces["train"],
        eval_dataset=faces["validation"],
        data_collator=collator,
        compute_metrics=collator.errors,
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_state()
    if trainer.is_world_process_zero():
        save_backbone(model, args.output_dir)
        processor.save_pretrained(args.output_dir)
        write_card(Path(args.output_dir), trainer.state, len(collator.mean), command_line(args))


CARD = """---
library_name: transformers
license: apache-2.0
tags: [fer_hf, vit]
---

# A compact ViT backbone that has seen drawn faces only

{layers} layers, {width} wide, {size}-pixel faces in {patch}-pixel patches. Pretrained by fer_hf on faces that the
package draws itself, to regress {targets} landmark coordinates and action-unit intensities; no expression label and no
picture of a person was used. A start for fine-tuning: it knows nothing of real faces.

Made by `{command}`: on validation, landmarks are off by {landmarks:.4f} of the image's side and action units by
{units:.4f} (intensities from 0 to 1), at epoch {epoch:g}, which was selected by validation loss.
"""


def save_backbone(model: ViTForImageClassification, folder: str) -> None:
    """Save the encoder alone, with a config that knows nothing of the regressed targets."""
    model.vit.config = ViTConfig(
        **{**model.config.to_dict(), "id2label": None, "label2id": None, "problem_type": None}
    )
    model.vit.save_pretrained(folder)


def write_card(folder: Path, state: TrainerState, num_targets: int, command: str) -> None:
    """Write the backbone's `README.md`, with the figures of the selected epoch."""
    config = ViTConfig.from_pretrained(folder)
    best = next(e for e in state.log_history if e["step"] == state.best_global_step and "eval_loss" in e)
    card = CARD.format(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        size=config.image_size,
        patch=config.patch_size,
        targets=num_targets,
        command=command,
        landmarks=best["eval_landmark_error"],
        units=best["eval_action_unit_error"],
        epoch=best["epoch"],
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


class FaceTargetCollator(FaceCollator):
    """
    Batches whose labels are landmark coordinates, then action-unit intensities, each standardised over the training
    faces: in their own units, the differences between faces are too small to learn from.

    Args:
        processor (`BaseImageProcessor`): The image processor.
        faces (`Dataset`): The training faces, with `landmarks` in [0, 1] and `action_units` in [0, 1].
    """

    def __init__(self, processor: BaseImageProcessor, faces: Dataset):
        super().__init__(processor, label_column="targets")
        targets = torch.tensor(np.concatenate([faces["landmarks"][:], faces["action_units"][:]], axis=1)).float()
        self.mean, self.std = targets.mean(dim=0), targets.std(dim=0)
        self.num_coordinates = len(faces[0]["landmarks"])

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """As [`FaceCollator`], with `labels` of shape `(batch_size, num_targets)`."""
        batch = super().__call__([{**e, "targets": e["landmarks"] + e["action_units"]} for e in examples])
        return {**batch, "labels": (batch["labels"] - self.mean) / self.std}

    def errors(self, prediction: EvalPrediction) -> dict[str, float]:
        """Mean distance of the landmarks as a share of the image's side, mean absolute error of the intensities."""
        offsets = (prediction.predictions - prediction.label_ids) * self.std.numpy()
        landmarks = offsets[:, : self.num_coordinates].reshape(len(offsets), -1, 2)
        return {
            "landmark_error": float(np.linalg.norm(landmarks, axis=-1).mean()),
            "action_unit_error": float(np.abs(offsets[:, self.num_coordinates :]).mean()),
        }


def build(backbone_args: BackboneArguments, num_targets: int) -> ViTForImageClassification:
    """A ViT from scratch with `num_targets` outputs."""
    config = ViTConfig(
        **vars(backbone_args),
        num_labels=num_targets,
        problem_type="regression",
        # ViT-B's 0.02 leaves so narrow an encoder next to silent: it would regress the mean face for many epochs.
        initializer_range=backbone_args.hidden_size**-0.5,
    )
    model = ViTForImageClassification(config)
    with torch.no_grad():
        # The faces are gray, so three equal channels stay equal, and a colour photo is seen by its mean over channels.
        patches = model.vit.embeddings.patch_embeddings.projection.weight
        patches.copy_(patches.mean(dim=1, keepdim=True).expand_as(patches))
    return model


if __name__ == "__main__":
    run(main)
