"""Deployment: the depth network as one file for other engines, checked against torch, small and fast."""
