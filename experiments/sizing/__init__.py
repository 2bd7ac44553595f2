"""What training takes in time and memory on paper, from sizes alone."""
