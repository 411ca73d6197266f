"""A module or package for each framework. It imports its framework, and no other adapter."""
