"""
What gradual unfreezing saves: time per step and peak memory as the compact ViT unfreezes from the top, layer by layer.

    python benchmarks/unfreezing.py --output unfreezing.png

Every phase runs in a process of its own, so that memory is its own, and phases take turns, so that whatever else the
machine does hits all alike; medians are compared. Layers unfreeze in the order of `unfreeze_order`, and a step is what
`FerTrainer` does in one: forward, backward, gradient clipping, AdamW over all parameters.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from matplotlib.figure import Figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, help="PNG file for the curve.")
    parser.add_argument("--steps", type=int, default=10, help="Timed steps of a phase in a turn.")
    parser.add_argument("--repeats", type=int, default=3, help="Turns of each phase.")
    parser.add_argument("--batch", type=int, default=64, help="Faces in a batch.")
    parser.add_argument("--phase", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phase is not None:
        print(json.dumps(measure(args.phase, args.steps, args.batch)))
        return
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, batch {args.batch}, one thread\n")
    phases = curve(args)
    print_table(phases)
    if args.output:
        plot(phases, args.output)


def curve(args: argparse.Namespace) -> list[dict]:
    """Medians over the turns, phase by phase: head alone, then one more group of layers at a time, then all."""
    turns = [[in_own_process(0, args)]]
    for phase in range(1, turns[0][0]["phases"]):
        turns[0].append(in_own_process(phase, args))
    for _ in range(args.repeats - 1):
        turns.append([in_own_process(phase, args) for phase in range(len(turns[0]))])
    return [
        {key: statistics.median(turn[phase][key] for turn in turns) for key in turns[0][0]}
        for phase in range(len(turns[0]))
    ]


def in_own_process(phase: int, args: argparse.Namespace) -> dict:
    flags = ["--phase", phase, "--steps", args.steps, "--batch", args.batch]
    words = [sys.executable, __file__, *map(str, flags)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(phase: int, steps: int, batch: int) -> dict:
    """
    Time one phase.

    Returns:
        `dict`: `phases` of the network, `trainable_parameters`, `seconds` of CPU time per step (median), and
        `peak_memory_mb`: how far resident memory rises above that before the first step.
    """
    import time

    from fer_hf.cli.arguments import ModelArguments
    from fer_hf.labels import EXPRESSIONS
    from fer_hf.training.phases import _peak, _reset_peak
    from fer_hf.training.unfreezing import count_parameters, frozen_to_eval, unfreeze_order

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, _ = ModelArguments(architecture="compact-vit").load(EXPRESSIONS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    groups = unfreeze_order(model)
    unfrozen = [f"{module}." for group in groups[:phase] for module in group]
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter_name.startswith(("classifier.", *unfrozen)))
    faces, labels = torch.randn(batch, 3, 48, 48), torch.arange(batch) % len(EXPRESSIONS)

    def step() -> float:
        start = time.process_time()
        frozen_to_eval(model.train())
        model(faces, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - start

    device = torch.device("cpu")
    _reset_peak("rss", device)
    before = _peak("rss", device)
    step()
    step()  # warms up
    seconds = [step() for _ in range(steps)]
    return {
        "phases": len(groups) + 1,
        "trainable_parameters": count_parameters(model)[0],
        "seconds": statistics.median(seconds),
        "peak_memory_mb": (_peak("rss", device) - before) / 1e6,
    }


def print_table(phases: list[dict]) -> None:
    """Print the phases as markdown, and how much faster the head alone is than all."""
    whole = phases[-1]
    print(f"head alone {whole['seconds'] / phases[0]['seconds']:.2f}x as fast as all (wanted: 2.5x)\n")
    print("| trainable parameters | ms per step | as fast as all | peak memory, MB |")
    print("| --- | --- | --- | --- |")
    for phase in phases:
        print(
            f"| {phase['trainable_parameters']:,.0f} | {1e3 * phase['seconds']:.1f} "
            f"| {whole['seconds'] / phase['seconds']:.2f}x | {phase['peak_memory_mb']:.0f} |"
        )
    print()


def plot(phases: list[dict], path: Path) -> None:
    """Milliseconds per step and peak memory over the phases."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    speed, memory = figure.subplots(2, 1, sharex=True)
    speed.plot([1e3 * phase["seconds"] for phase in phases], marker="o")
    memory.plot([phase["peak_memory_mb"] for phase in phases], marker="o")
    speed.set_ylabel("CPU ms per step (median)")
    memory.set_ylabel("peak memory above start, MB")
    memory.set_xlabel("groups unfrozen: 0 is the head alone, the last is the whole network")
    for axes in (speed, memory):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
