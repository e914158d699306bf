"""The platforms that an app is deployed to."""
