"""Poses of many pictures as Parquet files: what is labelled, by whom, and where it goes."""
