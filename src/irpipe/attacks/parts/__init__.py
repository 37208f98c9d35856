"""What several attacks share; the folder above lists the attacks themselves."""
