"""Image files, animated images and folders of images. Does not handle video or sound."""
