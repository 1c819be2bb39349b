"""Listeners get the events of a run and report them; they never steer it.

`display` has those that show a run as it goes on a terminal, in a notebook or in a log; `metrics`, `report`,
`reject_list` and `notifier` have others. `progress` has their words for an active run, `summary` those for
its end. Each is imported where it is used, since it needs a library of its own.
"""
