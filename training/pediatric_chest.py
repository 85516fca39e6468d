"""Train, measure and write the `pediatric_chest` package: pneumonia against normal, children aged 1 to 5, AP.

    python -m training --data DIR        (DIR holds normal/ and pneumonia/)

    read images -> five folds by patient: train on four, score the fifth -> threshold and accuracy from those scores
                -> train once more on everything -> model.onnx, manifest.toml, model_card.md, metrics.json

Every number in the card and in the manifest is written by this program. It needs no GPU; each training runs on one
thread, so that the seed fixes splits, weights and order whatever the number of processes.
"""

import multiprocessing
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inference import pixels
from inference.preprocess import Float32, Preprocessing, resized
from inference.presentation import MAX_GREY

PREPROCESSING = Preprocessing(input_size=144, crop="none", scaling="standardise")
FOLDS = 5
NETWORKS = 2  # averaged in the package, and in each fold alike
EPOCHS = 70
BATCH = 32
PEAK_LEARNING_RATE = 2e-3
WEIGHT_DECAY = 2e-2
LABEL_SMOOTHING = 0.1
EMA_DECAY = 0.99  # averages the weights of about the last eight epochs
SEED = 20261121


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Radiographs:
    """The data set in file-name order.

    `images` is (N, 1, S, S) float32, black -1 and white +1: not yet standardised, because gamma comes before that.
    """

    files: tuple[str, ...]
    patients: tuple[str, ...]
    has_pneumonia: NDArray[np.bool_]
    images: Float32


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """The network trained on everything, and each image's score by the network that never saw its patient."""

    weights: dict[str, Tensor]
    out_of_fold: NDArray[np.float64]
    fold: NDArray[np.int64]


def read_radiographs(folder: Path) -> Radiographs:
    """Read both classes through the same decoder and the same resize as serving."""
    paths = sorted(path for name in ("normal", "pneumonia") for path in (folder / name).iterdir())
    images = []
    for path in paths:
        greys = pixels.read(path).greys
        images.append(resized(greys, black=0, white=MAX_GREY, preprocessing=PREPROCESSING))
    return Radiographs(
        files=tuple(path.name for path in paths),
        patients=tuple(patient_of(path.name) for path in paths),
        has_pneumonia=np.array([path.parent.name == "pneumonia" for path in paths]),
        images=np.stack(images),
    )


def patient_of(file_name: str) -> str:
    """`person12_bacteria_47.jpeg` -> person12; `NORMAL2-IM-0072-0001.jpeg` -> NORMAL2-IM-0072."""
    found = re.match(r"person\d+(?=_)|(?:NORMAL2-)?IM-\d+(?=-)", file_name)
    if found is None:
        raise ValueError(f"{file_name}: the patient cannot be told from the name")
    return found.group()


def folds_by_patient(patients: Sequence[str], has_pneumonia: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) fold of each image: all images of a patient in one, and as many patients of each class in each."""
    generator = np.random.default_rng(SEED)
    fold_of: dict[str, int] = {}
    for is_positive in (False, True):
        members = sorted({p for p, positive in zip(patients, has_pneumonia, strict=True) if positive == is_positive})
        for place, member in enumerate(generator.permutation(members)):
            fold_of.setdefault(str(member), place % FOLDS)
    return np.array([fold_of[patient] for patient in patients])


def train_all(radiographs: Radiographs, *, processes: int) -> Trained:
    """Train every fold's networks and the final ones, `processes` at a time."""
    truth = radiographs.has_pneumonia
    fold = folds_by_patient(radiographs.patients, truth)
    # Fold number FOLDS holds nobody: those networks learn from everything and are shipped.
    tasks = [(held_out, network) for held_out in range(FOLDS + 1) for network in range(NETWORKS)]
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(train, radiographs.images[fold != held_out], truth[fold != held_out], 100 * held_out + network)
            for held_out, network in tasks
        ]
        states = [future.result() for future in futures]

    out_of_fold = np.full(len(truth), np.nan)
    for held_out in range(FOLDS):
        members = [state for state, task in zip(states, tasks, strict=True) if task[0] == held_out]
        is_held_out = fold == held_out
        out_of_fold[is_held_out] = scores(ensemble_of(members), radiographs.images[is_held_out])
    shipped = ensemble_of([state for state, task in zip(states, tasks, strict=True) if task[0] == FOLDS])
    return Trained(weights=shipped.state_dict(), out_of_fold=out_of_fold, fold=fold)


def train(images: Float32, has_pneumonia: NDArray[np.bool_], number: int) -> dict[str, Tensor]:
    """One network's averaged weights after EPOCHS over (n, 1, S, S) images with black -1 and white +1."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED + number)
    network = Network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY), use_buffers=True)  # type: ignore[no-untyped-call]
    steps = len(images) // BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=PEAK_LEARNING_RATE, total_steps=steps * EPOCHS, pct_start=0.2
    )
    inputs = torch.from_numpy(images)
    targets = torch.from_numpy(has_pneumonia).float() * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 2
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs))[: steps * BATCH].split(BATCH):  # type: ignore[no-untyped-call]
            logits, _ = network(augmented(inputs[batch]).contiguous(memory_format=torch.channels_last))
            optimiser.zero_grad()
            F.binary_cross_entropy_with_logits(logits[:, 0], targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            averaged.update_parameters(network)
    return averaged.module.state_dict()


def augmented(images: Tensor) -> Tensor:
    """Flip, rotate by up to 15 degrees, scale each axis by 0.8 to 1.15, shift by up to 5 %, change gamma; standardise.

    The axes scale apart, so that the aspect ratio, which differs between the two classes here, tells little.
    """
    number = len(images)

    def between(low: float, high: float) -> Tensor:
        return torch.rand(number) * (high - low) + low

    angle, gamma = between(-0.26, 0.26), torch.exp(between(-0.4, 0.4))
    across, down = between(0.8, 1.15) * torch.randint(0, 2, (number,)).mul(2).sub(1), between(0.8, 1.15)
    affine = torch.zeros(number, 2, 3)
    affine[:, 0, 0], affine[:, 0, 1] = torch.cos(angle) * across, -torch.sin(angle) * down
    affine[:, 1, 0], affine[:, 1, 1] = torch.sin(angle) * across, torch.cos(angle) * down
    affine[:, 0, 2], affine[:, 1, 2] = between(-0.1, 0.1), between(-0.1, 0.1)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return standardised(((moved + 1) / 2).clamp(0, 1) ** gamma.view(-1, 1, 1, 1))


def standardised(images: Tensor) -> Tensor:
    """`inference.preprocess.standardised`, for a batch of tensors."""
    deviation = images.std((2, 3), keepdim=True, correction=0).clamp_min(1e-6)
    return (images - images.mean((2, 3), keepdim=True)) / deviation


def scores(network: nn.Module, images: Float32) -> NDArray[np.float64]:
    """(n,) scores in [0, 1] of (n, 1, S, S) images with black -1 and white +1."""
    with torch.inference_mode():
        logits, _ = network(standardised(torch.from_numpy(images)))
    return np.asarray(torch.sigmoid(logits)[:, 0].double())


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al., CVPR 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Network(nn.Module):
    """0.45 million parameters: (N, 1, S, S) -> logits (N, 1) and class activation (N, 1, S / 16, S / 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 24, 2), Block(24, 48, 2), Block(48, 112, 2), Block(112, 112, 1))
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv2d(112, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # Average pooling commutes with the linear head: the mean of the class activation is the logit.
        activation = self.head(self.drop(self.blocks(self.stem(x))))
        return activation.mean((2, 3)), activation


class Ensemble(nn.Module):
    """Networks whose logits, and so whose class activations, are averaged."""

    def __init__(self, networks: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(Network() for _ in range(networks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        activation = torch.stack([network(x)[1] for network in self.networks]).mean(0)
        return activation.mean((2, 3)), activation


def ensemble_of(states: Sequence[dict[str, Tensor]]) -> Ensemble:
    ensemble = Ensemble(len(states))
    for network, state in zip(ensemble.networks, states, strict=True):
        network.load_state_dict(state)
    return ensemble.eval()
