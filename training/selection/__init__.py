"""Training questions chosen by what the test asks, or by what a training said of them."""
