"""
Fine-tune a pre-trained ViT, or any image classifier of Transformers, with gradual unfreezing.

    # The demo: faces that the package draws, two to three minutes on a CPU
    accelerate launch recipes/vit_gradual_unfreeze.py
    # ViT-B/16 on FER-2013
    accelerate launch recipes/vit_gradual_unfreeze.py \
        --config recipes/configs/cnn_vit_vit_v1_6.yaml --data_dir DIR

After versions V1.3 to V1.6.7 of the report on CNNs and pre-trained ViTs for FER-2013: the head trains alone at first,
in V1.3 and V1.5 to the end; from V1.6 on the encoder's layers thaw one by one from the top, later with weighted
sampling and BatchNorm in the head.
"""

from pathlib import Path

from fer_hf.cli.course import fine_tune
from fer_hf.cli.launch import run


def main() -> None:
    fine_tune(Path(__file__), example="cnn_vit_vit_v1_6.yaml")


if __name__ == "__main__":
    run(main)
