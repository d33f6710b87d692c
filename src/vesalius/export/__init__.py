"""Trained models in forms that others can run: here as a list of steps that numpy and the kernels in C take, without torch.

`written.py` alone needs torch: it writes a network down. All else here reads and runs what was written."""
