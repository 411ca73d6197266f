"""One file a framework. Each imports its framework and the floors below, and no other adapter."""
