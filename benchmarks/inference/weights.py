"""torchxrayvision's DenseNet-121 with random weights: FOLDER/model.pt, a pickle like the published one, and of it, by
the node's own converter, the package FOLDER/models/chest.    python -m benchmarks.inference.weights FOLDER

Batch normalisation is calibrated, or every image would score the same and no difference would show.
"""

import sys
from pathlib import Path

import torch

from inference.convert import golden_input, import_torchxrayvision
from inference.install import install_source
from inference.package import load
from inference.registry import BUILTIN_DIR


def main(folder: Path) -> None:
    xrv = import_torchxrayvision()
    torch.manual_seed(0)
    description = xrv.models.model_urls["all"]
    network = xrv.models.DenseNet(num_classes=len(description["labels"]))
    network.op_threshs = torch.tensor(description["op_threshs"])
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network.features(torch.from_numpy(golden_input()) + 400 * torch.randn(4, 1, 224, 224))
        network.classifier.weight.mul_(20)
    torch.save(network.eval(), folder / "model.pt")
    install_source(load(BUILTIN_DIR / "chest"), folder / "model.pt", folder / "models")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
