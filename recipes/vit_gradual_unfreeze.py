"""
Fine-tune a pre-trained ViT, or any image classifier of Transformers, with gradual unfreezing.

    # The demo: faces that the package draws, two to three minutes on a CPU
    accelerate launch recipes/vit_gradual_unfreeze.py
    # ViT-B/16 on FER-2013
    accelerate launch recipes/vit_gradual_unfreeze.py \
        --config recipes/configs/cnn_vit_vit_v1_6.yaml --data_dir DIR

After versions V1.3 to V1.6.7 of the report on CNNs and pre-trained ViTs for FER-2013: the head trains alone at first,
in V1.3 and V1.5 to the end; from V1.6 on the encoder's layers unfreeze one by one from the top, later with weighted
sampling and BatchNorm in the head. Without `--unfreeze_...` everything trains from the start; `train.py` is the same
under a general name.
"""

import fer_hf.cli  # isort: skip # noqa: F401 - before torch, whose threads it sets up

from pathlib import Path

from datasets import DatasetDict
from transformers import BaseImageProcessor, PreTrainedModel, set_seed

from fer_hf.cli.fine_tuning import DEMO_NOTE, FLAGS, Flags, headline
from fer_hf.cli.launch import run, start
from fer_hf.cli.next_steps import next_steps
from fer_hf.cli.parsing import parse_arguments
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import own_sizes, training_faces
from fer_hf.metrics import classification_metrics
from fer_hf.models.processors import check_fit
from fer_hf.runs.card import write_model_card
from fer_hf.runs.finish import finish_run
from fer_hf.training import FerTrainer, GradualUnfreezing


HERE = Path(__file__)
DEMO = HERE.parent / "configs" / "demo_vit_gradual_unfreeze.yaml"


def main(recipe: str = HERE.stem) -> None:
    *parsed, config = parse_arguments(FLAGS, recipe, DEMO)
    flags = Flags(*parsed)
    args = flags.training
    start(args, headline(recipe, flags) + (DEMO_NOTE if config == DEMO else ""))
    set_seed(args.seed)

    tables = flags.tables()
    model, processor = flags.model.load(tables["train"].features["label"].names, flags.loss)
    unfreezing = GradualUnfreezing.from_arguments(model, args)
    trainer = make_trainer(flags, tables, model, processor, unfreezing)

    result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_metrics("train", result.metrics)

    # Scores validation again and test, if there is one, once; leaves the model, the report, pictures and the record.
    finish_run(trainer, tables, flags.data.dataset_name, flags.model.record(), flags.record(), unfreezing)
    if trainer.is_world_process_zero():
        write_model_card(args.output_dir)
        print(next_steps(args.output_dir))


def make_trainer(
    flags: Flags,
    tables: DatasetDict,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    unfreezing: GradualUnfreezing | None,
) -> FerTrainer:
    """The trainer that the flags describe; `lr_search.py` makes one for each run of a search."""
    data, loss, args = flags.data, flags.loss, flags.training
    check_fit(model, processor, own_sizes(processor, *tables.values()))
    train, num_labels = tables["train"], tables["train"].features["label"].num_classes
    return FerTrainer(
        model=model,
        args=args,
        # Before the images: it refuses what does not go together.
        compute_loss_func=loss.function(train, args, data.sampler),
        train_dataset=training_faces(
            train, processor, data.augmentation, data.data_path, args.seed, loss.label_column
        ),
        eval_dataset=tables.get("validation"),
        data_collator=loss.collator(FaceCollator(processor), num_labels, args.seed),
        compute_metrics=classification_metrics,
        processing_class=processor,
        callbacks=flags.callbacks(unfreezing),
        sampler=data.sampler,
    )


if __name__ == "__main__":
    run(main)
