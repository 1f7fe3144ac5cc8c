"""`batch` on a Ray cluster: one model in each worker process, one writer of records, on the driver.

The driver (the process that was started) knows the items, their keys and the file; workers know a model.
What goes between them is rows of numbers, text and bytes. Ray is imported in this package alone, and only by
functions that need it.
"""
