"""The course of every fine-tuning recipe: parse, load, build, train, score test once, leave model, report and card."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from datasets import DatasetDict
from transformers import BaseImageProcessor, EarlyStoppingCallback, PreTrainedModel, set_seed

from fer_hf.cli.arguments import DataArguments, LossArguments, ModelArguments
from fer_hf.cli.launch import start
from fer_hf.cli.parsing import parse_arguments
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.metrics import classification_metrics
from fer_hf.runs.card import write_model_card
from fer_hf.runs.finish import finish_run
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing


class Flags(NamedTuple):
    """What a fine-tuning recipe can be told, by the part of the run that it shapes."""

    model: ModelArguments
    data: DataArguments
    loss: LossArguments
    training: FerTrainingArguments

    def record(self) -> dict:
        """What shapes the result beside `training`, for the run's record."""
        kept = ("sampler", "oversample", "augmentation")
        return {**dataclasses.asdict(self.loss), **{name: getattr(self.data, name) for name in kept}}


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
    model, processor = flags.model.load(faces["train"].features["label"].names, flags.loss)
    trainer, unfreezing = make_trainer(flags, faces, model, processor)

    result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_metrics("train", result.metrics)
    finish_run(trainer, faces, flags.data.dataset_name, flags.model.record(), flags.record(), unfreezing)
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


def make_trainer(
    flags: Flags, faces: DatasetDict, model: PreTrainedModel, processor: BaseImageProcessor
) -> tuple[FerTrainer, GradualUnfreezing | None]:
    """
    The trainer that the flags describe, and the callback that unfreezes layers, if they ask for one.

    Args:
        flags (`Flags`): Of the recipe.
        faces (`DatasetDict`): With `train` and `validation`.
        model, processor: From [`ModelArguments.load`].

    Raises:
        BadInputError: On flags that do not go with the model, the faces or each other.
    """
    data, args = flags.data, flags.training
    names = faces["train"].features["label"].names
    # First, since it refuses before any face is read.
    loss = flags.loss.function(faces["train"], args, data.sampler)
    unfreezing = GradualUnfreezing.from_arguments(model, args)
    callbacks = [unfreezing] if unfreezing else []
    if args.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
    trainer = FerTrainer(
        model=model,
        args=args,
        train_dataset=training_faces(
            faces["train"], processor, data.augmentation, data.data_path, args.seed, flags.loss.label_column
        ),
        eval_dataset=faces["validation"],
        data_collator=flags.loss.collator(FaceCollator(processor), len(names), args.seed),
        compute_loss_func=loss,
        compute_metrics=classification_metrics,
        processing_class=processor,
        callbacks=callbacks,
        sampler=data.sampler,
    )
    return trainer, unfreezing


def _usage(folder: str) -> str:
    """Code to copy from the terminal."""
    return (
        "    from transformers import pipeline\n"
        f'    classifier = pipeline("image-classification", model="{folder}", top_k=7)\n'
        '    classifier("face.png")'
    )
