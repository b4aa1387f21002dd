"""Jobs: the specification's seven and those of the schedules, and what runs them."""
