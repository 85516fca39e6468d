"""As torchxrayvision's README has it, with the Grad-CAM that people add: pydicom with the decoder that it chooses,
scikit-image, the network as it is, autograd, Pillow on the film at its full size.

    python -m benchmarks.inference.readme_way FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from benchmarks.inference.side import Answer, Question, answer_by_line
from inference.convert import import_torchxrayvision


class ReadmeWay:
    def __init__(self, folder: Path) -> None:
        self._xrv = import_torchxrayvision()
        torch.set_num_threads(1)
        self._network = torch.load(folder / "model.pt", weights_only=False).eval()
        self._network.features.register_forward_hook(self._keep)
        self._crop = self._xrv.datasets.XRayCenterCrop()
        self._resize = self._xrv.datasets.XRayResizer(224, engine="skimage")
        self._kept: torch.Tensor | None = None

    def answer(self, question: Question) -> Answer:
        answer = Answer()
        with answer.watched("decode"):
            dataset = pydicom.dcmread(question.image)
            pixels = dataset.pixel_array
        with answer.watched("preprocess"):  # torchxrayvision.utils.read_xray_dcm and the README's transforms
            white = 2**dataset.BitsStored - 1
            is_inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
            normalised = self._xrv.utils.normalize(white - pixels if is_inverted else pixels, white)[None, ...]
            image = torch.from_numpy(self._resize(self._crop(normalised)))[None, ...]
        if question.overlay == "none":
            with answer.watched("forward"), torch.inference_mode():
                self._network(image)
            return answer
        with answer.watched("forward"):
            scores = self._network(image)[0]
        with answer.watched("heatmap"):
            heatmap = self._grad_cam(scores)
        with answer.watched("overlay"):
            _overlay(pixels, dataset, heatmap, f"{float(scores.max()):.2f}")
        answer.scores = scores.tolist()
        return answer

    def _keep(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
            # The network goes on with its activation in place, which would change what is kept.
            self._kept = output

    def _grad_cam(self, scores: torch.Tensor) -> NDArray[np.float32]:
        """(7, 7), [0, 1]: of the label with the highest score (Selvaraju et al., ICCV 2017)."""
        assert self._kept is not None
        self._network.zero_grad()
        scores.max().backward()  # type: ignore[no-untyped-call]
        assert self._kept.grad is not None
        weights = self._kept.grad.mean((2, 3), keepdim=True)
        heatmap = torch.relu((weights * torch.relu(self._kept.detach())).sum(1))[0]
        return np.asarray(heatmap / (heatmap.max() + 1e-9), np.float32)


def _overlay(pixels: NDArray[Any], dataset: pydicom.Dataset, heatmap: NDArray[np.float32], text: str) -> Image.Image:
    """The film at its full size, the map on its centre square."""
    shown = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
    grey = (shown * (255 / (2**dataset.BitsStored - 1))).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    film = Image.fromarray(grey).convert("RGB")
    side = min(film.size)
    left, top = (film.width - side) // 2, (film.height - side) // 2
    enlarged = Image.fromarray((heatmap * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    coloured = ImageOps.colorize(enlarged, black="blue", mid="lime", white="red")
    seen = film.crop((left, top, left + side, top + side))
    film.paste(Image.blend(seen, coloured, 0.4), (left, top))
    ImageDraw.Draw(film).text((40, 40), f"AI: {text}  NOT FOR DIAGNOSTIC USE", fill="yellow")
    return film


if __name__ == "__main__":
    answer_by_line(ReadmeWay(Path(sys.argv[1])).answer)
