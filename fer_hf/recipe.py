"""The course of every fine-tuning recipe: parse, load, build, train, score test once, leave model, report and card."""

from pathlib import Path
from typing import NamedTuple

from datasets import DatasetDict
from transformers import BaseImageProcessor, EarlyStoppingCallback, PreTrainedModel, TrainerCallback, set_seed

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
    start,
)


class Flags(NamedTuple):
    """What a fine-tuning recipe can be told, by the part of the run that it shapes."""

    model: ModelArguments
    data: DataArguments
    training: FerTrainingArguments


def fine_tune(recipe: Path, example: str) -> None:
    """
    Run a fine-tuning recipe with the flags of the command line, from the first line on the terminal to the model card.

    Args:
        recipe (`Path`): The recipe's own file. Without arguments it runs `configs/demo_<recipe>.yaml` beside it.
        example (`str`): The file under `configs` that the demo names as the real thing.

    Raises:
        BadInputError: On flags that are wrong or do not go together, and on data or models that cannot be read.
    """
    demo = recipe.parent / "configs" / f"demo_{recipe.stem}.yaml"
    *flags, config = parse_arguments(tuple(Flags.__annotations__.values()), recipe.stem, demo)
    flags = Flags(*flags)
    args = flags.training
    start(args, _what(recipe, flags, example if config == demo else None))
    set_seed(args.seed)

    faces = flags.data.load()
    model, processor = flags.model.load(faces["train"].features["label"].names)
    unfreezing = GradualUnfreezing.from_arguments(model, args)
    trainer = _trainer(flags, faces, model, processor, [unfreezing] if unfreezing else [])

    result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_metrics("train", result.metrics)
    finish_run(trainer, faces, flags.model, flags.data, unfreezing)
    if trainer.is_world_process_zero():
        write_model_card(args.output_dir)
        print(f"\nModel, report and card are in {args.output_dir}. Use it:\n{_usage(args.output_dir)}")


def _what(recipe: Path, flags: Flags, example: str | None) -> str:
    """The first line a user reads: what runs, and for the demo how to run the real thing."""
    line = f"{recipe.stem}: {flags.model.start_point} on {flags.data.dataset_name}"
    if example:
        line += (
            "\nThis is the demo, on faces that the package draws: its accuracy says nothing about people."
            f"\nOn faces of people: accelerate launch recipes/{recipe.name} --config recipes/configs/{example} "
            "--data_dir DIR"
        )
    return line


def _trainer(
    flags: Flags,
    faces: DatasetDict,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    callbacks: list[TrainerCallback],
) -> FerTrainer:
    data_args, args = flags.data, flags.training
    if args.early_stopping_patience:
        callbacks = [*callbacks, EarlyStoppingCallback(args.early_stopping_patience)]
    return FerTrainer(
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


def _usage(folder: str) -> str:
    """Code to copy from the terminal."""
    return (
        "    from transformers import pipeline\n"
        f'    classifier = pipeline("image-classification", model="{folder}", top_k=7)\n'
        '    classifier("face.png")'
    )
