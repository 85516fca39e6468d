"""Receiving, side by side: the node's receiver with everything on, its peers, and a plain copy as the floor.

run         ->  for each round, load, number of associations, sender, receiver: a cell
cell        ->  receivers (started afresh, on an empty folder)  <-  senders  |  process_tree watches
report      ->  medians, ratios inside a round, goals: a table, JSON, a page
"""
