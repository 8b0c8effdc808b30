"""What several test files need: the float64 oracle, error bounds and inputs."""
