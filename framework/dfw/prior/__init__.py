"""Looking at a guidance alone: samples, and its gradient against the timestep."""
