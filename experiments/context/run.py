"""What a context model gains and costs: none, a table, a convolution, and a wide entropy path.

    python -m experiments.context.run --data PHOTOS --runs RUNS

All models have the same encoder and decoder of `patch-tiny`. These are trained for all rates first and then
kept fixed, so that all entropy paths code the same latents. Each entropy path begins with random weights and
is trained for the same number of CPU seconds. It writes results/context.json and its section of
docs/supernet.md. If it
is interrupted, run the same command again: it continues with the first model that is missing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import torch

from experiments.pieces import options
from experiments.results import ROOT, facts, read_result, renew, say, table, write_result
from nas.cost.counting.tabulate import measured_costs
from nas.graph.entropy import bits
from nas.graph.network import CodecNetwork
from nas.photos.images import Photo
from nas.photos.split import load_photos, split_folder
from nas.photos.tensors import pad, to_tensor
from nas.run import Run
from nas.spaces.rates import anchors_between, scored
from nas.spaces.space import SearchSpace
from nas.training.loop import Progress
from nas.training.settings import ALONE
from nas.training.start import KLT, TrainingRequest, train_or_resume
from nas.weights.checkpoint import supernet_of

RESULT = Path(__file__).parent / "results" / "context.json"
RATES = "0.0018..0.18"
PHOTOS = 12  # number of calibration photos
MIDDLE = 0.67  # the relative width of the transforms
EVERY = 250  # steps between checkpoints
TRIED = 40  # steps that measure the time of a step
COMMON: dict[str, Any] = {**ALONE, "lmbda": RATES, "batch": 4, "checkpoint_every": EVERY, "preview_every": 0}
FIRST = {
    **COMMON,
    **{"crop": 192, "steps": 1500, "optimizer": "soap", "learning_rate": 2e-3, "warmup": 50, "hold": 0.3},
    **{"final_rate": 0.03, "integer_phase": 0.0},
}
THEN = {
    **COMMON,
    **{"only": "entropy", "crop": 256, "learning_rate": 2e-3, "warmup": 50, "final_rate": 0.03},
}
NARROW: dict[str, Any] = {}
WIDE = {
    "window": 5,
    "features": {"psi": 256, "phi": 256},
    "widths": {"h_s": 128, "entropy_parameters.1": 427, "entropy_parameters.2": 341},
}
# The compared entropy paths: the layout, and the fields of the space that differ.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("none", NARROW),
    "table, 4 stages": ("raster-2x2-table", NARROW),
    "convolution, 4 stages": ("raster-2x2", NARROW),
    "wide convolution, 4 stages": ("raster-2x2", WIDE),
}


def space_of(layout: str, changes: dict[str, Any]) -> SearchSpace:
    """Make the space of one architecture of `patch-tiny`, with another entropy path."""
    tiny = SearchSpace.load("patch-tiny")
    content = tiny.only(tiny.uniform(MIDDLE, "none")).to_dict()
    content |= changes | {"layouts": [layout], "widths": content["widths"] | changes.get("widths", {})}
    if layout.endswith("-table"):
        content["features"] = content["features"] | {"phi": 0}
    low, high = map(float, RATES.split(".."))
    content["rates"] = list(anchors_between(low, high))
    return SearchSpace.from_dict(content, name=f"patch-tiny, {layout}")


def trained_transforms(data: Path, runs: Path, seed: int) -> Run:
    """Train the codec that all models have in common."""
    settings = {**FIRST, "seed": seed}
    space = space_of("none", NARROW)
    return train_or_resume(
        TrainingRequest(space, str(data), runs / "start", settings=settings, init_from=KLT)
    )


def beginning(space: SearchSpace, start: Run, seed: int) -> CodecNetwork:
    """Make a network of the trained transforms and a random entropy path, whose scales are about 1."""
    torch.manual_seed(seed)
    network = CodecNetwork(space)
    known = supernet_of(start).extract(start.space.widest())
    for name in ("g_a", "g_s", "gains"):
        network.get_submodule(name).load_state_dict(known.get_submodule(name).state_dict())
    last = network.context.get_submodule("entropy_parameters.4")
    with torch.no_grad():
        cast(torch.Tensor, last.bias)[: space.y_channels] = 1
    return network


def trained(name: str, start: Run, data: Path, runs: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Train one entropy path for a number of CPU seconds. Returns its cost and its bits."""
    space = space_of(*MODELS[name])
    folder = runs / name.replace(" ", "-").replace(",", "")

    def train(steps: int, out: Path, told: Any = lambda progress: None) -> Run:
        settings = {**THEN, "seed": seed, "steps": steps, "warmup": min(steps, THEN["warmup"])}
        network = beginning(space, start, seed)
        return train_or_resume(
            TrainingRequest(space, str(data), out, settings=settings, init_from=network), told
        )

    found = read_result(RESULT)["models"].get(name) if RESULT.is_file() else None
    if found:
        return dict(found)
    times: list[float] = []
    train(TRIED, folder / "trial", lambda progress: times.append(time.process_time()))
    each = (times[-1] - times[TRIED // 2]) / (TRIED - 1 - TRIED // 2)
    steps = round(seconds / each)

    def told(progress: Progress) -> None:
        if progress.step % EVERY == 0:
            say(f"{name}  {progress.step}/{steps}  {progress.bpp:.4f} bpp")

    began = time.process_time()
    run = train(steps, folder / "whole", told)
    spent = time.process_time() - began
    architecture = space.widest()
    costs, layout = measured_costs(space), space.layout(architecture)
    by_edge = costs.by_edge(architecture)
    result = {
        "layout": layout.name,
        "stages": layout.stages(),
        "kmac_px": {edge: round(by_edge[edge], 4) for edge in ("h_s", "context", "entropy_parameters")},
        "params": costs.params(architecture),
        "steps": steps,
        "cpu_seconds": round(spent, 1),
        "bpp": measured(run, load_photos(split_folder(data)["calibration"])[:PHOTOS]),
    }
    say(f"{name}  {result}")
    return result


@torch.no_grad()
def measured(run: Run, photos: list[Photo]) -> dict[str, dict[str, float]]:
    """Measure bits per pixel of y and z as coded, as means over photos, by lambda."""
    space = run.space
    network = supernet_of(run).extract(space.widest())
    layout, found = space.layout(space.widest()), {}
    for lmbda in scored(space.rates):
        sums = {"y": 0.0, "z": 0.0}
        for photo in photos:
            x = pad(to_tensor(photo.pixels), space.family.alignment)
            output = network(x, layout, lmbda=lmbda, coded=True, picture=False)
            for node, likelihood in output["likelihoods"].items():
                sums[node] += float(bits(likelihood)[0]) / photo.size
        found[f"{lmbda:.4g}"] = {node: total / len(photos) for node, total in sums.items()}
    return found


def tables() -> list[str]:
    """Make the tables that stand between the marks of the page."""
    found = read_result(RESULT)["models"]
    lmbdas = list(found["none"]["bpp"])
    columns = ["context", "entropy path, kMAC/px", "parameters", "steps"]
    rows = []
    for name, model in found.items():
        cells = [f"{sum(model['kmac_px'].values()):.2f}", f"{model['params']:,}", f"{model['steps']:,}"]
        for lmbda in lmbdas:
            rate, none = (sum(each["bpp"][lmbda].values()) for each in (model, found["none"]))
            change = "" if name == "none" else f" ({100 * (rate / none - 1):+.1f} %)"
            cells.append(f"{rate:.4f}{change}")
        rows.append([name, *cells])
    return [table([*columns, *(f"bpp at λ {lmbda}" for lmbda in lmbdas)], rows)]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=120, help="CPU seconds for each entropy path")
    parser.add_argument(
        "--models", nargs="*", default=list(MODELS), choices=list(MODELS), help="models to train"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    start = trained_transforms(given.data, given.runs, given.seed)
    models = read_result(RESULT)["models"] if RESULT.is_file() else {}
    for name in given.models:
        models[name] = trained(name, start, given.data, given.runs, given.seed, given.seconds)
        ordered = {each: models[each] for each in MODELS if each in models}
        settings = {"first": FIRST, "then": THEN}
        write_result(RESULT, {"facts": facts(given.seed, settings=settings), "models": ordered})
    if set(models) == set(MODELS):
        renew(ROOT / "docs" / "supernet.md", "context", tables())


if __name__ == "__main__":
    main()
