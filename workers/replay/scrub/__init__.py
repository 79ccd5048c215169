"""Takes out of a corpus what is personal, and leaves what a gateway can stumble over."""
