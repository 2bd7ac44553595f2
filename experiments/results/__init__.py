"""What runs leave, read again: measurements, metrics, labels, models. No engine."""
