"""What several tables and figures share; the folder above lists them."""
