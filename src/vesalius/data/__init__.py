"""Data sets: cases, layouts, splits, the doctor, reading, preparation, patches and batches."""
