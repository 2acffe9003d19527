"""
Train any classifier on any data set: the steps of vit_gradual_unfreeze.py, under a general name.

    # The same demo: faces that the package draws, two to three minutes on a CPU
    accelerate launch recipes/train.py
    # VGG for FER-2013, from scratch
    accelerate launch recipes/train.py --config recipes/configs/vgg_paper_fer2013.yaml --data_dir DIR

`fer-hf models` lists the architectures; `recipes/README.md` lists the configs and what their sources published.
"""

from pathlib import Path

from fer_hf.cli.launch import run
from fer_hf.recipes import vit_gradual_unfreeze


def main() -> None:
    vit_gradual_unfreeze.main(recipe=Path(__file__).stem)


if __name__ == "__main__":
    run(main)
