"""What a radiograph takes by the README way of torchxrayvision and by the node's, and a node beside its own stages.

radiographs.py   synthetic DX images of 3000 rows and 2500 columns, in the transfer syntaxes that modalities use
weights.py       torchxrayvision's DenseNet-121 with random weights, as a pickle and as an installed package
readme_way.py    one process: pydicom, scikit-image, eager torch, Grad-CAM by autograd, Pillow
node_way.py      one process: the node's own functions
side.py          what both processes share: questions by line, and a watch for each stage
throughput.py    a whole node with a burst of studies, beside its own stages in bare loops
run.py           the two by turns
report.py        medians, ratios, goals

The adult network's weights are published where a benchmark must not reach. With random ones nothing it says has a
meaning; how long it takes to say it does not depend on them.
"""
