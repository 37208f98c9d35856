"""Devices, locks on GPUs, threads, CUDA graphs and progress. Nothing here decides a method."""
