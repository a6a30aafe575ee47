"""Networks folded for one style, so that nothing is computed twice: a network does not know its
fast copy, and the copy is tested against the network."""
