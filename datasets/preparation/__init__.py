"""From KITTI's archives to a folder that training and evaluation read."""
