"""How accurate a package is on labelled radiographs that somebody has.

table.py     CSV -> files, truths, and what it says of each image's patient
subjects.py  age, sex, view and manufacturer of each image, from the table or else from its DICOM header
evaluate.py  every file -> decoded -> scored -> each label's samples
                 sample.py            scores and truths, and patients drawn with replacement
                 ├── accuracy.py      AUROC, and sensitivity and specificity at a threshold
                 ├── roc.py           the whole curve with its band, and thresholds found on it
                 ├── calibration.py   what share of the images at a score have the finding
                 └── subgroups.py     the same accuracy for the old and the young, one vendor and another
page.py      all of it as one page of HTML, its plots drawn by plots.py and figure.py
"""
