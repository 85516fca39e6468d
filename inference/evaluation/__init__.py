"""How accurate a package is on labelled radiographs that somebody has.

table.py     CSV -> files, truths, and what it says of each image's patient
subjects.py  age, sex, view and manufacturer of each image, from the table or else from its DICOM header
evaluate.py  every file -> decoded -> scored -> each label's sample
                 sample.py                  scores and truths, and patients drawn with replacement
                 ├── accuracy.py            AUROC, and sensitivity and specificity at a threshold
                 ├── roc.py                 the whole curve with its band, and thresholds found on it
                 ├── operating_points.py    accuracy at the manifest's threshold and at those
                 ├── calibration.py         what share of the images at a score have the finding
                 └── subgroups.py           accuracy for the old and the young, one vendor and another
lines.py     all of it for programs, one object a label
page.py      all of it for people, one page of HTML; its plots by plots.py and figure.py
"""
