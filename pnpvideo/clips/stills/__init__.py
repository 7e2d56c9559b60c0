"""Image files, animated images and folders of images. Knows no video and no sound."""
