"""
Fine-tune a ViT, or any image classifier of Transformers, with gradual unfreezing; or train one of ours from scratch.

    # The demo: faces that the package draws, about two minutes on a CPU
    accelerate launch recipes/vit_gradual_unfreeze.py
    # ViT-B/16 on FER-2013
    accelerate launch recipes/vit_gradual_unfreeze.py \
        --config recipes/configs/fer2013_vit_in21k.yaml --data_dir DIR

After version V1.6 of the report on CNNs and pre-trained ViTs for FER-2013: the head trains alone at first, then the
encoder's layers thaw one by one from the top.
"""

from pathlib import Path

from transformers import EarlyStoppingCallback, set_seed

from fer_hf.data.collator import FaceCollator
from fer_hf.data.fast import training_faces
from fer_hf.evaluation import finish_run
from fer_hf.hub import write_model_card
from fer_hf.metrics import classification_metrics
from fer_hf.training import (
    DataArguments,
    FerTrainer,
    FerTrainingArguments,
    GradualUnfreezing,
    ModelArguments,
    parse_arguments,
    run,
    start,
)


RECIPE = Path(__file__).stem
DEMO = Path(__file__).parent / "configs" / "demo.yaml"


def main() -> None:
    flags = (ModelArguments, DataArguments, FerTrainingArguments)
    model_args, data_args, args, config = parse_arguments(flags, RECIPE, DEMO)
    start(args, what(model_args, data_args, config))
    set_seed(args.seed)

    faces = data_args.load()
    model, processor = model_args.load(faces["train"].features["label"].names)
    unfreezing = GradualUnfreezing.from_arguments(model, args)
    callbacks = [unfreezing] if unfreezing else []
    if args.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))

    trainer = FerTrainer(
        model=model,
        args=args,
        train_dataset=training_faces(
            faces["train"], processor, data_args.augmentation, data_args.data_path, args.seed
        ),
        eval_dataset=faces["validation"],
        data_collator=FaceCollator(processor),
        compute_metrics=classification_metrics,
        processing_class=processor,
        callbacks=callbacks,
        sampler=data_args.sampler,
    )
    result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_metrics("train", result.metrics)
    finish_run(trainer, faces, model_args, data_args, unfreezing)
    if trainer.is_world_process_zero():
        write_model_card(args.output_dir)
        print(f"\nModel, report and card are in {args.output_dir}. Use it:\n{usage(args.output_dir)}")


def what(model_args: ModelArguments, data_args: DataArguments, config: Path | None) -> str:
    """The first line a user reads: what runs, and for the demo how to run the real thing."""
    line = f"{RECIPE}: {model_args.start_point} on {data_args.dataset_name}"
    if config == DEMO:
        line += (
            "\nThis is the demo, on faces that the package draws: its accuracy says nothing about people."
            f"\nOn FER-2013: accelerate launch recipes/{RECIPE}.py "
            "--config recipes/configs/fer2013_vit_in21k.yaml --data_dir DIR"
        )
    return line


def usage(folder: str) -> str:
    """Code to copy from the terminal."""
    return (
        "    from transformers import pipeline\n"
        f'    classifier = pipeline("image-classification", model="{folder}", top_k=7)\n'
        '    classifier("face.png")'
    )


if __name__ == "__main__":
    run(main)
