"""
Train DACL: cross-entropy, and a center loss that an attention network weighs feature by feature.

    # The demo: faces that the package draws, a few minutes on a CPU
    accelerate launch recipes/dacl.py
    # The paper's, on RAF-DB; the backbone starts from MS-Celeb-1M weights of yours
    accelerate launch recipes/dacl.py --config recipes/configs/dacl_paper_rafdb.yaml --data_dir DIR \
        --backbone_weights resnet18_msceleb.safetensors --allow_unmatched_backbone_weights

Farzaneh and Qi, "Facial Expression Recognition in the Wild via Deep Attentive Center Loss", WACV 2021
(https://github.com/amirhfarzaneh/dacl), with its two baselines: `--loss sparse_center` is DACL, `center` has attention
1 everywhere, `--config_overrides '{"mode": "softmax"}'` leaves cross-entropy alone. Also the experiments of the report
that re-implements DACL on FER-2013, and what the CNN comparison on FER-2013 trained under that name (`dacl-reduced`,
without attention network and center loss).
"""

from pathlib import Path

from fer_hf.cli.course import fine_tune
from fer_hf.cli.launch import run


def main() -> None:
    fine_tune(Path(__file__), example="dacl_report_exp3.yaml")


if __name__ == "__main__":
    run(main)
