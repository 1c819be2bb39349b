"""The way of a job's rows, from the source to the committed checkpoint, and the calls that start it."""
