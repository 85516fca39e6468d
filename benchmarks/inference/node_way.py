"""The node's own functions, one after the other as its analysis process and its worker call them.

python -m benchmarks.inference.node_way FOLDER
"""

import sys
from pathlib import Path

import onnxruntime

from benchmarks.inference.side import Answer, Question, answer_by_line
from domain.findings import DisplayImage, ImageAnalysis, ImageRun
from inference import pixels
from inference.analysis import image_analysis
from inference.network import Network
from inference.preprocess import seen_box
from inference.registry import Registry
from reports.picture.heatmap import film_with_activation
from reports.picture.page import FILM_BOXES, draw_page


class NodeWay:
    def __init__(self, folder: Path) -> None:
        self._package = Registry(folder / "models").get("chest")
        Network(self._package)  # which is verified, as it is in the node
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            self._package.weights_path, options, providers=["CPUExecutionProvider"]
        )

    def answer(self, question: Question) -> Answer:
        manifest, answer = self._package.manifest, Answer()
        with answer.watched("decode"):
            radiograph = pixels.read(question.image)
        with answer.watched("preprocess"):
            image = pixels.network_input(radiograph, manifest.preprocessing)[None]
        with answer.watched("forward"):
            names = [output.name for output in self._session.get_outputs()]
            outputs = dict(zip(names, self._session.run(names, {"image": image}), strict=True))
        with answer.watched("heatmap"):
            rows, columns = radiograph.stored.shape
            seen = seen_box(rows, columns, manifest.preprocessing.crop)
            said = manifest.adapter.answer(
                manifest.labels, manifest.measures, outputs, seen=seen, pixel_aspect=radiograph.pixel_aspect
            )
            analysis = image_analysis(
                manifest, "2.25.1", said, device="cpu", run=ImageRun(decode_s=0.0, infer_s=0.0, grey_mean=0.0)
            )
        with answer.watched("overlay"):
            if question.overlay == "page":
                self._page(pixels.display_image(radiograph, within=FILM_BOXES), analysis)
            else:
                display = pixels.display_image(radiograph, within=[(columns, rows)])
                film_with_activation(display, analysis.activation, (columns, rows))
        answer.scores = list(said.scores)
        return answer

    def _page(self, display: DisplayImage, analysis: ImageAnalysis) -> None:
        draw_page(display, analysis, self._package.identity(is_demonstration=False), "Collimator")


if __name__ == "__main__":
    answer_by_line(NodeWay(Path(sys.argv[1])).answer)
