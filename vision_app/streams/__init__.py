"""What every agent has around its decisions: order, retries, dead letters."""
