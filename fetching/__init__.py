"""Getting what does not come with the repository: KITTI's archives, the published weights, and their cache folder.

Nothing here imports torch at import time; `published` does so only to check weights that it has just fetched.
"""
