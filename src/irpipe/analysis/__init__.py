"""What results say: paired differences, NDS and NSL, masked gradients, claims and errata."""
