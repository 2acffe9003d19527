"""
Find a learning rate for any fine-tuning config: a sweep, or optuna's trials, which try optimizer, decay and batch too.

    # The demo: faces that the package draws, a few minutes on a CPU
    accelerate launch recipes/lr_search.py
    # Rates for the PReLU CNN on FER-2013, three epochs each
    accelerate launch recipes/lr_search.py --config recipes/configs/prelu_report_prelu_cnn.yaml --data_dir DIR \
        --num_train_epochs 3 --learning_rates 1e-4,2e-4,5e-4,1e-3,2e-3
    # Trials of optuna (pip install optuna)
    accelerate launch recipes/lr_search.py --config recipes/configs/prelu_report_prelu_cnn.yaml --data_dir DIR \
        --search optuna --trials 30

After the learning-rate search of the report on a PReLU CNN for FER-2013, which never reset the weights: each of its
rates went on with what the rates before had learned. Here every run starts from the same initial weights, sees
the faces in the same order, and is judged by its best validation. Loss curves are kept and drawn, as the report on
CNNs and pre-trained ViTs shows them for 1e-3, 1e-4 and 1e-5. The test split is never touched. Started again with the
same `--output_dir`, a search goes on: what is finished is not run again.
"""

import fer_hf.cli  # isort: skip # noqa: F401 - before torch, whose threads it sets up

from pathlib import Path

from datasets import DatasetDict
from transformers import PreTrainedModel, set_seed

from fer_hf.cli.arguments import DataArguments
from fer_hf.cli.fine_tuning import FLAGS, Flags
from fer_hf.cli.launch import run, start
from fer_hf.cli.parsing import parse_arguments
from fer_hf.cli.search import SearchArguments, best_result, check_settings, optuna_search, search_table, sweep
from fer_hf.errors import BadInputError
from fer_hf.files import write_json
from fer_hf.plots import plot_search, plot_search_losses
from fer_hf.provenance import command_line, environment
from fer_hf.recipes.vit_gradual_unfreeze import make_trainer
from fer_hf.runs.record import describe_dataset
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing
from fer_hf.training.arguments import training_summary


RECIPE = Path(__file__).stem
DEMO = Path(__file__).parent / "configs" / "demo_lr_search.yaml"
SEARCHED = ("learning_rate", "optim", "weight_decay", "per_device_train_batch_size", "global_batch_size")


def main() -> None:
    search, *parsed, _ = parse_arguments((SearchArguments, *FLAGS), RECIPE, DEMO)
    flags = Flags(*parsed)
    args = flags.training
    by_optuna = search.search == "optuna"
    if by_optuna and args.world_size > 1:
        raise BadInputError(f"`search` optuna runs in one process, got {args.world_size}; a sweep runs in several.")
    tried = f"{search.trials} trials" if by_optuna else f"{len(search.rates())} learning rates"
    start(args, f"{RECIPE}: {tried} of {flags.model.start_point} on {flags.data.dataset_name}, judged by validation")

    tables = flags.tables()
    tables.pop("test", None)
    names = tables["train"].features["label"].names
    _, processor = flags.model.load(names, flags.loss)

    def make_model() -> PreTrainedModel:
        set_seed(args.seed)
        return flags.model.load(names, flags.loss)[0]

    def trainer_of(model: PreTrainedModel, args: FerTrainingArguments) -> FerTrainer:
        unfreezing = GradualUnfreezing.from_arguments(model, args)
        return make_trainer(flags._replace(training=args), tables, model, processor, unfreezing)

    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    check_settings(folder, settings(search, flags))
    if by_optuna:
        results = optuna_search(make_model, trainer_of, args, search, folder)
    else:
        results = sweep(make_model, trainer_of, args, search.rates(), folder)
    if args.should_save:
        write_results(args, flags.data, results, tables, folder)


def settings(search: SearchArguments, flags: Flags) -> dict:
    """What all runs of the search share."""
    searched = SEARCHED if search.search == "optuna" else SEARCHED[:1]
    training = training_summary(flags.training)
    return {
        "search": {"search": search.search},
        "model": vars(flags.model),
        "data": vars(flags.data),
        "loss": vars(flags.loss),
        "training": {name: value for name, value in training.items() if name not in searched},
    }


def write_results(
    args: FerTrainingArguments, data_args: DataArguments, results: list[dict], tables: DatasetDict, folder: Path
) -> None:
    """Leave `search.json`, `search.md`, `search.png` and `search_losses.png`, and print the table."""
    metric = args.metric_for_best_model.removeprefix("eval_")
    table, best = search_table(results, metric), best_result(results, metric)
    record = {
        **environment(args.world_size, args.device.type),
        "command": command_line(args.world_size),
        "seed": args.seed,
        "dataset": describe_dataset(data_args.dataset_name, tables),
        "training": training_summary(args),
        "selected_on": "validation",
        "metric": metric,
        "results": results,
        "best": best,
    }
    write_json(folder / "search.json", record)
    (folder / "search.md").write_text(table + "\n", encoding="utf-8")
    plot_search(results, metric, folder / "search.png")
    plot_search_losses(results, folder / "search_losses.png")
    print(f"\n{table}\n\nBest: --learning_rate {best['learning_rate']:g}. Table and plots are in {folder}.")


if __name__ == "__main__":
    run(main)
