"""Listeners get the events of a run and report them; they never steer it.

`terminal`, `notebook`, `log`, `metrics`, `report` and `notifier` have a listener each. `progress` has what
they say of a run under way, `summary` what they say at its end. Each is imported where it is used, since it
needs a library of its own.
"""
