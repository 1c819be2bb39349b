"""The command line: flags to settings, events to the terminal. A thin skin over the library.

Heavy imports stay inside the commands that need them, so that `--help` answers at once.
"""
