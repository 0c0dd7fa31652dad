"""The edges that each scope counts."""

from __future__ import annotations

from nas.spaces.description import ENTROPY_PARAMETERS

# The edges of each scope. `total` counts every edge once, as papers do, so it is not encoder + decoder.
ENTROPY_EDGES = ("h_s", "context", ENTROPY_PARAMETERS)
CONTEXT_EDGES = ("context", ENTROPY_PARAMETERS)  # the other edges are the backbone
SCOPE_EDGES: dict[str, tuple[str, ...]] = {
    "encoder": ("g_a", "h_a", *ENTROPY_EDGES),
    "decoder": (*ENTROPY_EDGES, "g_s"),
    "total": ("g_a", "h_a", *ENTROPY_EDGES, "g_s"),
}
