"""Arrow for several stages: layouts of columns, JSON in columns, and the original values of rejects."""
