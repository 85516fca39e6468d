"""What the node knows about its work, without doing any: plain data and rules, standard library only."""
