"""What every request passes: access, limits, errors, headers, logs."""
