"""One clinic sends thousands of studies at once: what the others, and what is STAT, notice of it.

node.py      the worker that is measured: real engine, queue, intake and recovery; its jobs wait instead of analysing
clinics.py   300 clinics, and the rows that the receiver would have written for their studies
databases.py databases with so many studies already queued
measure.py   one measurement
run.py       the rounds
report.py    medians, ratios, goals
"""
