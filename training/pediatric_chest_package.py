"""Writes what training/pediatric_chest.py learned: model.onnx, manifest.toml, model_card.md and metrics.json.

out-of-fold scores -> threshold -> accuracy        network -> ONNX -> its own golden scores -> manifest
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from inference.convert import export_onnx
from inference.evaluation.accuracy import Accuracy, measure
from inference.evaluation.roc import youden_threshold
from inference.evaluation.sample import INTERVAL_METHOD, Estimate, Sample
from inference.network import Network
from inference.package import MANIFEST_FILE, load, rewritten
from training.pediatric_chest import EPOCHS, FOLDS, NETWORKS, PREPROCESSING, SEED, Ensemble, Radiographs, Trained

PACKAGE_DIR = Path(__file__).parent.parent / "inference" / "packages" / "pediatric_chest"
MAX_WEIGHTS_BYTES = 5_000_000
DECIMALS = 4


class Serving(nn.Module):
    """The network as a package needs it: `scores` (N, 1) in [0, 1] and `class_activation` (N, 1, h, w)."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, activation = self.ensemble(image)
        return torch.sigmoid(logits), activation


def write_package(radiographs: Radiographs, trained: Trained, *, wall_time_s: float) -> str:
    """Write the package's files and return one line that says how good it is."""
    sample = Sample.of(trained.out_of_fold, radiographs.has_pneumonia, radiographs.patients)
    threshold = round(youden_threshold(sample), DECIMALS)
    accuracy = measure(sample, threshold=threshold, seed=SEED)
    weights = onnx_of(trained)
    (PACKAGE_DIR / "model.onnx").write_bytes(weights)
    write_manifest(weights, accuracy)
    (PACKAGE_DIR / "metrics.json").write_text(
        json.dumps({**asdict(accuracy), "wall_time_s": round(wall_time_s)}, indent=2) + "\n", encoding="utf-8"
    )
    card = model_card(radiographs, accuracy, len(weights), wall_time_s)
    (PACKAGE_DIR / "model_card.md").write_text(card, encoding="utf-8")
    return f"AUROC {in_words(accuracy.auroc)} out of fold; {wall_time_s / 60:.0f} minutes"


def onnx_of(trained: Trained) -> bytes:
    """The shipped network as ONNX."""
    ensemble = Ensemble(NETWORKS)
    ensemble.load_state_dict(trained.weights)
    content = export_onnx(Serving(ensemble).eval(), PREPROCESSING.input_size)
    if len(content) > MAX_WEIGHTS_BYTES:
        raise ValueError(f"the network takes {len(content)} bytes; {MAX_WEIGHTS_BYTES} may be committed")
    return content


def write_manifest(weights: bytes, accuracy: Accuracy) -> None:
    """Write the lines that training decides. The golden scores come last, from the finished package itself."""
    path = PACKAGE_DIR / MANIFEST_FILE
    text = rewritten(
        path.read_text(encoding="utf-8"),
        {
            "size_bytes": str(len(weights)),
            "sha256": f'"{hashlib.sha256(weights).hexdigest()}"',
            "threshold": str(accuracy.threshold),
            "sensitivity": str(round(accuracy.sensitivity.value, DECIMALS)),
            "specificity": str(round(accuracy.specificity.value, DECIMALS)),
            "scores": "[0.0]",
        },
    )
    path.write_text(text, encoding="utf-8")
    scores = Network(load(PACKAGE_DIR), is_golden_checked=False).golden_numbers()
    path.write_text(rewritten(text, {"scores": json.dumps([round(score, 6) for score in scores])}), encoding="utf-8")


def model_card(radiographs: Radiographs, accuracy: Accuracy, weights_bytes: int, wall_time_s: float) -> str:
    """The card, every number of it from this run."""
    positives = int(radiographs.has_pneumonia.sum())
    manifest = load(PACKAGE_DIR).manifest
    limits = "\n".join(f"- {limit}" for limit in manifest.limits)
    return f"""\
# {manifest.title} {manifest.version}

Written by `python -m training`; no number here was typed by hand.

**Intended use.** {manifest.intended_use} Not for diagnosis: research and demonstration only.

**Data.** {len(radiographs.files)} AP chest radiographs of {accuracy.patients} children aged 1 to 5 ({positives} with
pneumonia, {len(radiographs.files) - positives} normal), a part of Kermany, Zhang and Goldbaum, *Labeled Optical
Coherence Tomography (OCT) and Chest X-Ray Images for Classification*, Mendeley Data, doi 10.17632/rscbjbr9sj, from
Guangzhou Women and Children's Medical Center, used under CC BY 4.0. The weights are an adaptation of these data.

**Network.** The mean of {NETWORKS} residual networks of 0.45 million parameters, trained from scratch for {EPOCHS}
epochs on whole radiographs resized to {PREPROCESSING.input_size} x {PREPROCESSING.input_size} pixels and standardised
each by itself. {weights_bytes / 1e6:.1f} MB as ONNX. The heatmap is the network's own class activation.

**Accuracy.** From {FOLDS}-fold cross-validation: every radiograph was scored by networks that had seen none of its
patient. Intervals: {INTERVAL_METHOD}.

| | value | 95 % interval |
|---|---|---|
| AUROC | {accuracy.auroc.value:.3f} | {interval(accuracy.auroc)} |
| sensitivity at the threshold {accuracy.threshold} | {accuracy.sensitivity.value:.3f} | {interval(accuracy.sensitivity)} |
| specificity at the threshold {accuracy.threshold} | {accuracy.specificity.value:.3f} | {interval(accuracy.specificity)} |

| | called pneumonia | called normal |
|---|---|---|
| pneumonia | {accuracy.true_positives} | {accuracy.false_negatives} |
| normal | {accuracy.false_positives} | {accuracy.true_negatives} |

The threshold is the one with the largest sensitivity + specificity - 1 on these same out-of-fold scores (Youden 1950),
so sensitivity and specificity are slightly optimistic. The shipped network learned from all the radiographs and was
itself measured on none of them.

**Limits.**

{limits}
- Radiographs of the two classes differ in more than the lungs (shape, collimation, tubes), and the network may use
  some of that; only images from other hospitals would show how much.

**Made again by** `python -m training --data DIR`, seed {SEED}: {wall_time_s / 60:.0f} minutes on two
shared CPU cores. DIR holds `normal/` and `pneumonia/`, with the data set's file names, which tell the patients.
"""


def in_words(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({interval(estimate)})"


def interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}"
