"""Labels from larger networks: teachers of several kinds, and what they say about a data set."""
