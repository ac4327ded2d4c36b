"""A first experiment file from a log and its tables: look at a sample, decide, and write down why."""
