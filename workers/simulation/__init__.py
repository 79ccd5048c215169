"""The control loop against emulated providers, in virtual time: weeks of sending in minutes."""
