"""Commands about annotators."""
