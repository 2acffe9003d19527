"""
Train a ViT on faces from random weights: what pretraining is worth, seen from the other side.

    # The demo: faces that the package draws, a few minutes on a CPU
    accelerate launch recipes/vit_from_scratch.py
    # On FER-2013
    accelerate launch recipes/vit_from_scratch.py --config recipes/configs/cnn_vit_vit_scratch.yaml --data_dir DIR

After the report on CNNs and pre-trained ViTs for FER-2013, whose ViT from scratch never left the share of the largest
class; its sizes are unpublished, and those of `vit-scratch` are ours.
"""

from pathlib import Path

from fer_hf.cli.course import fine_tune
from fer_hf.cli.launch import run


def main() -> None:
    fine_tune(Path(__file__), example="cnn_vit_vit_scratch.yaml")


if __name__ == "__main__":
    run(main)
