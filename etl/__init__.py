"""propsync: user properties from CSV and Parquet exports into Amplitude."""
