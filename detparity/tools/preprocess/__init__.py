"""What was done to a picture before it became a tensor: found by trying what people do, and measuring."""
