"""Many texts over several processes: each tokenises, chooses and rebuilds; one process owns the model."""
