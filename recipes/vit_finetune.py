"""
Fine-tune a pre-trained ViT, or any image classifier of Transformers, all layers from the first step.

    # The demo: faces that the package draws, a few minutes on a CPU
    accelerate launch recipes/vit_finetune.py
    # ViT-B/16 (ImageNet-21k) on RAF-DB
    accelerate launch recipes/vit_finetune.py --config recipes/configs/gvit21k_vit_rafdb.yaml --data_dir DIR

After the report on a ViT fine-tuned on RAF-DB (GViT21k): mirrored, rotated, cropped and jittered faces, a learning
rate that falls when validation stands still, and an end after five epochs without a better one.
"""

from pathlib import Path

from fer_hf.cli.course import fine_tune
from fer_hf.cli.launch import run


def main() -> None:
    fine_tune(Path(__file__), example="gvit21k_vit_rafdb.yaml")


if __name__ == "__main__":
    run(main)
