"""Many items in batches: prepared ahead in threads, answered together, written one by one."""
