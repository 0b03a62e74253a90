"""The statements, a file for each number of the paper, or for a tight group of them."""
