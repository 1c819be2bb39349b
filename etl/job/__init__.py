"""The job file: read, checked, and made a frozen Job."""
