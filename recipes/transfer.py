"""
Train TransFER: local attention branches and heads of self-attention, of which training drops one now and then.

    # The demo: faces that the package draws, a few minutes on a CPU
    accelerate launch recipes/transfer.py
    # The paper's, on RAF-DB; the stem starts from MS-Celeb-1M weights of yours
    accelerate launch recipes/transfer.py --config recipes/configs/transfer_paper_rafdb.yaml --data_dir DIR \
        --backbone_weights ir50_msceleb.safetensors --allow_unmatched_backbone_weights

Xue, Wang and Guo, "TransFER: Learning Relation-aware Facial Expression Representations with Transformers", ICCV 2021
(https://huggingface.co/papers/2108.11116), after the released code; and what the CNN comparison on FER-2013 trained
under that name (`transfer-reduced`).
"""

from pathlib import Path

from fer_hf.cli.course import fine_tune
from fer_hf.cli.launch import run


def main() -> None:
    fine_tune(Path(__file__), example="transfer_paper_rafdb.yaml")


if __name__ == "__main__":
    run(main)
