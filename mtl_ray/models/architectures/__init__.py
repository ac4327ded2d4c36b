"""The architectures: one file a paper, named by its section in `config/model.py`."""
