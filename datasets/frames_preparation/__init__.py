"""From videos and folders of images to sequences that `datasets.frames_layout` reads."""
