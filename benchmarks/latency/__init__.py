"""How long a study takes from the sender's release to the last result stored, and what of that is not the work itself.

node.py     a real node (`collimator serve`) and DCMTK's storescp as its destination
trace.py    where the time of one study went, from the node's own rows and log
stages.py   the same work alone: each stage called directly, many times
run.py      idle node, half load, stages alone
report.py   medians and goals
"""
