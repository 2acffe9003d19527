"""
Train the convolutional networks that the papers and reports on FER-2013 compare with.

    # The demo: faces that the package draws, a few minutes on a CPU
    accelerate launch recipes/cnn_baselines.py
    # VGG for FER-2013, from scratch
    accelerate launch recipes/cnn_baselines.py --config recipes/configs/vgg_paper_fer2013.yaml --data_dir DIR

AlexNet, VGG, ResNet-50 and a CNN under a Transformer of the CNN comparison on FER-2013; CNN V1 to V2.1 of the report
on CNNs and pre-trained ViTs for FER-2013; the network and the template of the report on a PReLU CNN for FER-2013; and
VGG of Khaireddin and Chen, 2021 (https://huggingface.co/papers/2105.03588). `fer-hf models` lists them.
"""

from pathlib import Path

from fer_hf.cli.course import fine_tune
from fer_hf.cli.launch import run


def main() -> None:
    fine_tune(Path(__file__), example="vgg_paper_fer2013.yaml")


if __name__ == "__main__":
    run(main)
