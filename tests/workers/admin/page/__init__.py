"""The dashboard in a real browser. A package: its fixtures (scope "package") end with the last of its tests."""
