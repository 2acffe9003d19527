"""
Pretrain a ViT as a masked autoencoder on faces without labels: it sees a quarter of the patches and draws the rest.

    # The demo: faces that the package draws, a few minutes on a CPU
    accelerate launch recipes/mae_pretrain.py
    # The compact ViT on the training faces of FER-2013
    accelerate launch recipes/mae_pretrain.py --config recipes/configs/mae_fer2013_compact.yaml --data_dir DIR

After He et al., 2021 (https://huggingface.co/papers/2111.06377). What it leaves is a bare backbone (`ViTModel`) and
its image processor: fine-tuning starts from it with `--model_name_or_path`, and only the head is new. Training
faces are seen without their labels, validation faces select the epoch, test faces are never touched.
"""

import fer_hf.cli  # isort: skip # noqa: F401 - before torch, whose threads it sets up

from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedConfig, ViTConfig, set_seed

from fer_hf.cli.arguments import DataArguments, ModelArguments
from fer_hf.cli.fine_tuning import DEMO_NOTE
from fer_hf.cli.launch import run, start
from fer_hf.cli.next_steps import next_steps
from fer_hf.cli.parsing import parse_arguments
from fer_hf.data.training_set import training_faces
from fer_hf.errors import BadInputError
from fer_hf.models.zoo import architecture_config, image_processor
from fer_hf.plots import plot_reconstructions
from fer_hf.runs.card import write_model_card
from fer_hf.runs.finish import finish_pretraining
from fer_hf.training import FerTrainer, FerTrainingArguments
from fer_hf.training.masked_autoencoder import MaskingCollator, backbone, build_masked_autoencoder, reconstruct


RECIPE = Path(__file__).stem
DEMO = Path(__file__).parent / "configs" / "demo_mae_pretrain.yaml"


@dataclass
class MaskingArguments:
    """The encoder, as a ViT of the zoo; the decoder, which is thrown away; and the mask."""

    _argument_group_name = "model"

    architecture: str = field(default="compact-vit", metadata={"help": "The encoder: a plain ViT of the zoo."})
    config_overrides: dict | str | None = field(
        default=None, metadata={"help": "Fields of the encoder's configuration: '{\"image_size\": 64}'."}
    )
    decoder_hidden_size: int = field(default=64, metadata={"help": "Width of the decoder."})
    decoder_num_hidden_layers: int = field(default=2, metadata={"help": "Layers of the decoder."})
    decoder_num_attention_heads: int = field(default=4, metadata={"help": "Attention heads of the decoder."})
    mask_ratio: float = field(default=0.75, metadata={"help": "Share of the patches that the encoder does not see."})
    norm_pix_loss: bool = field(default=True, metadata={"help": "Reconstruct pixels standardised within each patch."})

    def encoder(self) -> PreTrainedConfig:
        """The encoder's configuration, without labels."""
        flags = ModelArguments(architecture=self.architecture, config_overrides=self.config_overrides)
        config = architecture_config(self.architecture, **flags.config_overrides)
        if not isinstance(config, ViTConfig):
            raise BadInputError(f"`architecture` {self.architecture!r} is no plain ViT; compact-vit is one.")
        return ViTConfig(**{**config.to_dict(), "id2label": None, "label2id": None, "problem_type": None})

    def decoder(self) -> dict[str, int]:
        """Fields of [`~transformers.ViTMAEConfig`]."""
        fields = {name: value for name, value in vars(self).items() if name.startswith("decoder_")}
        return {**fields, "decoder_intermediate_size": 4 * self.decoder_hidden_size}


def main() -> None:
    masking, data_args, args, config = parse_arguments(
        (MaskingArguments, DataArguments, FerTrainingArguments), RECIPE, DEMO
    )
    if data_args.sampler != "none" or data_args.oversample is not None:
        raise BadInputError("`sampler` and `oversample` go by labels, and mae_pretrain reads none; leave them out.")
    args.label_names = ["pixel_values"]  # or the Trainer would look for labels, and evaluate without a loss
    start(args, what(masking, data_args, config), metrics=())  # the loss alone
    set_seed(args.seed)

    encoder = masking.encoder()
    tables = data_args.load()
    tables.pop("test", None)
    if "validation" not in tables:
        raise BadInputError(f"{data_args.dataset_name} has no validation split, which chooses the weights.")
    processor = image_processor(masking.architecture, encoder)
    model = build_masked_autoencoder(encoder, masking.mask_ratio, masking.norm_pix_loss, **masking.decoder())
    collator = MaskingCollator(processor, model.vit.embeddings.patch_embeddings.num_patches, args.seed)
    trainer = FerTrainer(
        model=model,
        args=args,
        train_dataset=training_faces(
            tables["train"], processor, data_args.augmentation, data_args.data_path, args.seed
        ),
        eval_dataset=training_faces(tables["validation"], processor, data_path="plain"),
        data_collator=collator,
        processing_class=processor,
    )
    result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_metrics("train", result.metrics)
    folder = Path(args.output_dir)
    if trainer.is_world_process_zero():
        gray = all(row["image"].mode == "L" for row in tables["train"].select_columns(["image"]))
        backbone(model, encoder, gray).save_pretrained(folder)
        processor.save_pretrained(folder)
        draw(trainer, folder / "reconstructed_faces.png")
    model = {**vars(masking), "encoder": encoder.to_diff_dict()}
    finish_pretraining(trainer, tables, data_args.dataset_name, model, {"augmentation": data_args.augmentation})
    if trainer.is_world_process_zero():
        write_model_card(folder)
        print(next_steps(args.output_dir))


def what(masking: MaskingArguments, data_args: DataArguments, config: Path | None) -> str:
    """The first line on the terminal."""
    line = f"{RECIPE}: {masking.architecture} on {data_args.dataset_name}, {masking.mask_ratio:.0%} of a face masked"
    return line + (DEMO_NOTE if config == DEMO else "")


def draw(trainer: FerTrainer, path: Path, count: int = 8) -> None:
    """A picture of the first validation faces, as they are, masked, and reconstructed."""
    dataset: Dataset = trainer.eval_dataset
    rows = list(range(min(count, len(dataset))))
    batch = trainer.data_collator(dataset.__getitems__(rows))
    batch = {name: values.to(trainer.args.device) for name, values in batch.items()}
    masked, drawn = reconstruct(trainer.model.eval(), **batch)
    plot_reconstructions(*(images.cpu().numpy() for images in (batch["pixel_values"], masked, drawn)), path)


if __name__ == "__main__":
    run(main)
