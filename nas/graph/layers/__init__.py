"""The layers of the network, plain and slimmable, and what builds edges from descriptions of them."""
