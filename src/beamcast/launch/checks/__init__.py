"""What `beamcast doctor` looks at: one function for each check, in a small registry."""
