"""What a version must pass to move on."""
