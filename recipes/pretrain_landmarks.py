"""
Pretrain a compact ViT backbone on drawn faces, without expressions: regress where brows, lids, nose and mouth lie.

    accelerate launch recipes/pretrain_landmarks.py --config recipes/configs/pretrain_vit_compact_drawn.yaml

What it leaves is a bare backbone (`ViTModel`) and its image processor, for `--model_name_or_path` of other recipes.
From a random start, gradual unfreezing of a deep ViT learns next to nothing: the head sits on frozen noise.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import EvalPrediction, ViTConfig, ViTForImageClassification, ViTImageProcessor, set_seed

from fer_hf.data.collator import FaceCollator
from fer_hf.training import DataArguments, FerTrainer, FerTrainingArguments, parse_arguments, run, start


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
    start(args, f"{RECIPE}: a {backbone_args.num_hidden_layers}-layer ViT on the landmarks of drawn faces")
    set_seed(args.seed)

    faces = data_args.load(landmarks=True)
    model = build(backbone_args, np.array(faces["train"]["landmarks"][:]))
    size = {"height": backbone_args.image_size, "width": backbone_args.image_size}
    processor = ViTImageProcessor(size=size, do_convert_rgb=True)
    trainer = FerTrainer(
        model=model,
        args=args,
        train_dataset=faces["train"],
        eval_dataset=faces["validation"],
        data_collator=FaceCollator(processor, label_column="landmarks"),
        compute_metrics=landmark_error,
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    if trainer.is_world_process_zero():
        model.vit.save_pretrained(args.output_dir)
        processor.save_pretrained(args.output_dir)
    trainer.save_state()


def build(backbone_args: BackboneArguments, landmarks: np.ndarray) -> ViTForImageClassification:
    """A ViT that regresses `landmarks` of shape `(num_faces, num_coordinates)`, from their mean on."""
    config = ViTConfig(
        **vars(backbone_args), num_labels=landmarks.shape[1], problem_type="regression", layer_norm_eps=1e-6
    )
    model = ViTForImageClassification(config)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor(landmarks.mean(axis=0)))
        # The faces are gray, so three equal channels stay equal, and a colour photo is seen by its mean over channels.
        patches = model.vit.embeddings.patch_embeddings.projection.weight
        patches.copy_(patches.mean(dim=1, keepdim=True).expand_as(patches))
    return model


def landmark_error(prediction: EvalPrediction) -> dict[str, float]:
    """Mean distance between true and regressed landmarks, as a share of the image's side."""
    offsets = (prediction.predictions - prediction.label_ids).reshape(len(prediction.label_ids), -1, 2)
    return {"landmark_error": float(np.linalg.norm(offsets, axis=-1).mean())}


if __name__ == "__main__":
    run(main)
