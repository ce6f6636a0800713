"""Container images without a daemon: build, merge, inspect, move and serve them."""
