"""Breaks hubs, logs and connections at random for as long as it is told, and checks every delivery.

``python -m torture`` is `make torture`. The modules, each of which uses only those above it:

- ``plan``: which faults happen in a round, from a seed.
- ``ledger``: what was published and what arrived, and the verdict on a round. No I/O.
- ``traffic``: the publishers and the subscribers that fill the ledger.
- ``nodes``: a hub process that is started again when it has ended.
- ``stage``: the log's server, the nodes, the cables between them, and how each fault is inflicted and ended.
- ``campaign``: round after round on the log of one kind.
- ``tally``: counts, and the table at the end.

It does not measure speed: that is bench/."""
